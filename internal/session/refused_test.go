package session

import "testing"

// TestRefusedWho: a refusal of ours calls who is refused what it says that it is. Who says nothing is a member.
func TestRefusedWho(t *testing.T) {
	for role, want := range map[Role]string{
		0: `transport: refused member "x" at 127.0.0.1:1: wrong cluster: no`, RoleMember: `transport: refused member "x" at 127.0.0.1:1: wrong cluster: no`,
		RoleClient: `transport: refused client "x" at 127.0.0.1:1: wrong cluster: no`, RoleOperator: `transport: refused operator "x" at 127.0.0.1:1: wrong cluster: no`,
	} {
		r := refuser(Hello{Name: "x", Role: role})(CodeWrongCluster, "no")
		r.Addr = "127.0.0.1:1"
		if r.Error() != want {
			t.Errorf("role %d: %s, want %s", role, r, want)
		}
	}
}
