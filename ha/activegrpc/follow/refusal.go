package follow

import (
	"cmp"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A refusal's status is Unavailable with an ErrorInfo (google.rpc) of this domain and reason; its metadata are "active", "addr" and "advertise", as far as they are known.
const (
	Domain = "github.com/baton-ha/baton/ha"
	Reason = "NOT_ACTIVE"
)

// A Refusal is what a member answers that is not Active: nothing of the call was done, and whoever is Active may be asked. It is an error that gRPC
// turns into its status.
type Refusal struct {
	Active    string // name of the Active, "" if not known
	Addr      string // its address in the list of the members
	Advertise string // where its own service is reached, "" if it has not said so
}

func (r *Refusal) Error() string {
	if r.Active == "" {
		return "baton: not active; no active is known"
	}
	return fmt.Sprintf("baton: not active; the active is %s at %s", r.Active, cmp.Or(r.Advertise, r.Addr))
}

// GRPCStatus returns the status that says it.
func (r *Refusal) GRPCStatus() *status.Status {
	info := &errdetails.ErrorInfo{Domain: Domain, Reason: Reason, Metadata: map[string]string{}}
	for key, v := range map[string]string{"active": r.Active, "addr": r.Addr, "advertise": r.Advertise} {
		if v != "" {
			info.Metadata[key] = v
		}
	}
	s := status.New(codes.Unavailable, r.Error())
	if with, err := s.WithDetails(info); err == nil {
		return with
	}
	return s
}

// Refused returns the refusal that the error of a call tells, nil for every other one.
func Refused(err error) *Refusal {
	s, ok := status.FromError(err)
	if !ok || s.Code() != codes.Unavailable {
		return nil
	}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain && info.GetReason() == Reason {
			m := info.GetMetadata()
			return &Refusal{Active: m["active"], Addr: m["addr"], Advertise: m["advertise"]}
		}
	}
	return nil
}
