package check

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	nomad "github.com/hashicorp/nomad/api"
	"github.com/zclconf/go-cty/cty"
)

// A jobFile is what is read of a job of Nomad: into the types of its API, by the names that are written at their fields. Nomad's own reader has a
// licence that is not open; what it does besides (functions, dynamic blocks) is not used here.
type jobFile struct{ scope *hcl.EvalContext }

// readJob reads a job strictly, with values of variables.
func readJob(text []byte, values map[string]string) (*nomad.Job, error) {
	file, diags := hclsyntax.ParseConfig(text, "kv.nomad.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		return nil, diags
	}
	body, ok := file.Body.(*hclsyntax.Body)
	if !ok || len(body.Attributes) > 0 {
		return nil, errors.New("it is no file of blocks")
	}
	vars := map[string]cty.Value{}
	var jobs []*hclsyntax.Block
	for _, b := range body.Blocks {
		switch {
		case b.Type == "job" && len(b.Labels) == 1:
			jobs = append(jobs, b)
		case b.Type == "variable" && len(b.Labels) == 1:
			value, given := values[b.Labels[0]]
			if def := b.Body.Attributes["default"]; !given && def == nil {
				return nil, fmt.Errorf("the variable %s has no value", b.Labels[0])
			} else if !given {
				v, diags := def.Expr.Value(nil)
				if diags.HasErrors() || v.Type() != cty.String {
					return nil, fmt.Errorf("the variable %s: its default is no text: %w", b.Labels[0], diags)
				}
				value = v.AsString()
			}
			vars[b.Labels[0]] = cty.StringVal(value)
		default:
			return nil, fmt.Errorf("a block %q %q", b.Type, b.Labels)
		}
	}
	if len(jobs) != 1 {
		return nil, fmt.Errorf("%d jobs", len(jobs))
	}
	r := jobFile{scope: &hcl.EvalContext{Variables: map[string]cty.Value{
		"var": cty.ObjectVal(vars),
		// What the client fills in is left as it is written.
		"node": cty.ObjectVal(map[string]cty.Value{"unique": cty.ObjectVal(map[string]cty.Value{"name": cty.StringVal("${node.unique.name}")})}),
	}}}
	job := &nomad.Job{ID: &jobs[0].Labels[0]}
	if err := r.fill(reflect.ValueOf(job).Elem(), jobs[0].Body, nil, "job"); err != nil {
		return nil, err
	}
	job.Canonicalize()
	return job, nil
}

// fill fills a struct from a body.
func (r jobFile) fill(to reflect.Value, body *hclsyntax.Body, labels []string, where string) error {
	fields, labelled := map[string]reflect.Value{}, reflect.Value{}
	blocks := map[string]bool{}
	for i := range to.NumField() {
		name, kind, _ := strings.Cut(to.Type().Field(i).Tag.Get("hcl"), ",")
		switch kind {
		case "label":
			labelled = to.Field(i)
		case "block":
			blocks[name] = true
			fields[name] = to.Field(i)
		case "optional", "":
			fields[name] = to.Field(i)
		}
	}
	switch {
	case labelled.IsValid() != (len(labels) == 1) || len(labels) > 1:
		return fmt.Errorf("%s has %d names", where, len(labels))
	case labelled.IsValid() && labelled.Kind() == reflect.Pointer:
		labelled.Set(reflect.ValueOf(&labels[0]))
	case labelled.IsValid():
		labelled.SetString(labels[0])
	}
	for name, a := range body.Attributes {
		f, ok := fields[name]
		if !ok || name == "" || blocks[name] {
			return fmt.Errorf("%s has no field %q", where, name)
		}
		v, diags := a.Expr.Value(r.scope)
		if diags.HasErrors() {
			return fmt.Errorf("%s.%s: %w", where, name, diags)
		}
		if err := assign(f, v); err != nil {
			return fmt.Errorf("%s.%s: %w", where, name, err)
		}
	}
	for _, b := range body.Blocks {
		f, ok := fields[b.Type]
		if !ok || !blocks[b.Type] {
			return fmt.Errorf("%s has no block %q", where, b.Type)
		}
		if err := r.block(f, b, where+"."+b.Type); err != nil {
			return err
		}
	}
	return nil
}

// block takes a block up into a field.
func (r jobFile) block(f reflect.Value, b *hclsyntax.Block, where string) error {
	t := f.Type()
	switch {
	case t.Kind() == reflect.Pointer && f.IsNil():
		f.Set(reflect.New(t.Elem()))
		return r.fill(f.Elem(), b.Body, b.Labels, where)
	case t.Kind() == reflect.Slice:
		item := reflect.New(t.Elem()).Elem()
		into := item
		if t.Elem().Kind() == reflect.Pointer {
			item.Set(reflect.New(t.Elem().Elem()))
			into = item.Elem()
		}
		if err := r.fill(into, b.Body, b.Labels, where); err != nil {
			return err
		}
		f.Set(reflect.Append(f, item))
		return nil
	case t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Pointer && len(b.Labels) == 1: // of blocks, by their names
		item := reflect.New(t.Elem().Elem())
		if f.IsNil() {
			f.Set(reflect.MakeMap(t))
		}
		f.SetMapIndex(reflect.ValueOf(b.Labels[0]), item)
		return r.fill(item.Elem(), b.Body, b.Labels, where)
	case t.Kind() == reflect.Map && len(b.Labels) == 0 && len(b.Body.Blocks) == 0: // of whatever is in it
		if f.IsNil() {
			f.Set(reflect.MakeMap(t))
		}
		for name, a := range b.Body.Attributes {
			v, diags := a.Expr.Value(r.scope)
			if diags.HasErrors() {
				return fmt.Errorf("%s.%s: %w", where, name, diags)
			}
			item := reflect.New(t.Elem()).Elem()
			if t.Elem().Kind() == reflect.Interface {
				item.Set(reflect.ValueOf(v))
			} else if err := assign(item, v); err != nil {
				return fmt.Errorf("%s.%s: %w", where, name, err)
			}
			f.SetMapIndex(reflect.ValueOf(name), item)
		}
		return nil
	}
	return fmt.Errorf("%s is there twice, or is no block", where)
}

// assign gives a field a value of its type.
func assign(f reflect.Value, v cty.Value) error {
	if f.Kind() == reflect.Pointer {
		f.Set(reflect.New(f.Type().Elem()))
		f = f.Elem()
	}
	switch {
	case v.IsNull():
		return errors.New("it is null")
	case f.Type() == reflect.TypeFor[time.Duration]() && v.Type() == cty.String:
		d, err := time.ParseDuration(v.AsString())
		f.SetInt(int64(d))
		return err
	case f.Kind() == reflect.String && v.Type() == cty.String:
		f.SetString(v.AsString())
	case f.Kind() == reflect.Bool && v.Type() == cty.Bool:
		f.SetBool(v.True())
	case f.Kind() == reflect.Int && v.Type() == cty.Number:
		n, accuracy := v.AsBigFloat().Int64()
		if f.SetInt(n); accuracy != 0 {
			return errors.New("it is no whole number")
		}
	case f.Kind() == reflect.Slice && v.CanIterateElements():
		for _, e := range v.AsValueSlice() {
			item := reflect.New(f.Type().Elem()).Elem()
			if err := assign(item, e); err != nil {
				return err
			}
			f.Set(reflect.Append(f, item))
		}
	default:
		return fmt.Errorf("a %s where a %s belongs", v.Type().FriendlyName(), f.Type())
	}
	return nil
}

// jobFaults are what would be taken by Nomad all the same.
func jobFaults(job *nomad.Job) (faults []string) {
	wrong := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if len(job.TaskGroups) != 1 || len(job.TaskGroups[0].Tasks) != 1 || len(job.TaskGroups[0].Networks) != 1 {
		return []string{"it is not one task in one group with one network"}
	}
	group := job.TaskGroups[0]
	task := group.Tasks[0]
	ports := map[string]int{}
	for _, p := range group.Networks[0].DynamicPorts { // static ones too, as they are written
		ports[p.Label] = p.Value
	}
	members := strings.Split(task.Env["BATON_MEMBERS"], ",")
	if len(members) != *group.Count {
		wrong("BATON_MEMBERS has %d names for %d members", len(members), *group.Count)
	}
	for _, m := range members {
		if !strings.HasSuffix(m, fmt.Sprintf(":%d", ports["members"])) {
			wrong("the member %s is not at the port %d", m, ports["members"])
		}
	}
	if ports["http"] != 8080 {
		wrong("HTTP is not at the port %d, which is that of the service", ports["http"])
	}
	distinct := false
	for _, c := range group.Constraints {
		distinct = distinct || c.Operand == nomad.ConstraintDistinctHosts
	}
	if !distinct {
		wrong("two members may be on one host")
	}
	if task.Env["BATON_NAME"] != "${node.unique.name}" {
		wrong("a member has not the name of its client")
	}
	for name, volume := range group.Volumes {
		mounted := false
		for _, m := range task.VolumeMounts {
			mounted = mounted || *m.Volume == name && *m.Destination == "/data"
		}
		if volume.Type != "host" || !mounted {
			wrong("the volume %s is not a host's, or not at /data", name)
		}
	}
	if len(group.Volumes) != 1 {
		wrong("%d volumes", len(group.Volumes))
	}
	if *group.Update.MaxParallel != 1 || *group.Update.HealthCheck != "checks" {
		wrong("an update takes more than one, or does not wait until it has caught up")
	}
	if task.KillSignal != "SIGTERM" || *task.KillTimeout < 2*leavingTime {
		wrong("%s and %v are not enough to hand over", task.KillSignal, *task.KillTimeout)
	}
	for _, s := range group.Services {
		for _, c := range s.Checks {
			if ports[s.PortLabel] == 0 || c.Type != "http" || c.Interval == 0 || c.Timeout == 0 {
				wrong("the check %s of %s asks nobody", c.Name, s.Name)
			}
			if c.CheckRestart != nil && c.Path != "/admin/healthz" {
				wrong("the check %s restarts a member that runs", c.Name)
			}
			if c.Path != "/admin/readyz" && c.OnUpdate != nomad.OnUpdateIgnore {
				wrong("an update waits for the check %s, which a Standby does not pass, or says nothing of it", c.Name)
			}
		}
	}
	return faults
}

// leavingTime bounds each of the two things that the service does after SIGTERM.
const leavingTime = 10 * time.Second

var jobValues = map[string]string{"members": "n1=10.0.0.1:7000,n2=10.0.0.2:7000,n3=10.0.0.3:7000"}

func readKV(t *testing.T) (*nomad.Job, []byte) {
	t.Helper()
	text, err := os.ReadFile("../nomad/kv.nomad.hcl")
	if err != nil {
		t.Fatal(err)
	}
	job, err := readJob(text, jobValues)
	if err != nil {
		t.Fatal(err)
	}
	return job, text
}

// TestNomad: the job has what Nomad's API has, and what five things that must be right come to here. Its checks ask what the service answers.
func TestNomad(t *testing.T) {
	job, _ := readKV(t)
	for _, f := range jobFaults(job) {
		t.Error(f)
	}
	c := newCluster(t)
	active := c.active("")
	for _, name := range memberNames {
		c.follows(name)
	}
	for _, s := range job.TaskGroups[0].Services {
		for _, check := range s.Checks {
			eventually(t, check.Name+" is answered as it should be", func() bool {
				yes := 0
				for _, name := range memberNames {
					if status, _ := ask(http.MethodGet, c.base[name]+check.Path, ""); status == http.StatusOK {
						yes++
					}
				}
				return yes == len(memberNames) || check.Path == "/admin/active" && yes == 1
			})
		}
	}
	c.running[active].terminate(t)
	c.active(active)
}

// What is planted into the job is found.
func TestNomad_Planted(t *testing.T) {
	_, text := readKV(t)
	for _, c := range []struct{ old, new, fault string }{
		{"count = 3", "cuont = 3", `no field "cuont"`},
		{"count = 3", "count = 5", "for 5 members"},
		{"count = 3", `count = "three"`, "a string where a int belongs"},
		{"count = 3", "count = 2.5", "no whole number"},
		{`lost_after = "24h"`, `lost_after = "a day"`, "invalid duration"},
		{"update {", "updates {", `no block "updates"`},
		{"max_parallel      = 1", "max_parallel      = 2", "more than one"},
		{`operator = "distinct_hosts"`, `operator = "distinct_property"`, "on one host"},
		{`port "members" { static = 7000 }`, `port { static = 7000 }`, "has 0 names"},
		{`port "members" { static = 7000 }`, `port "members" { static = 7001 }`, "not at the port 7001"},
		{`destination = "/data"`, `destination = "/date"`, "not at /data"},
		{`kill_timeout = "45s"`, `kill_timeout = "5s"`, "not enough"},
		{`kill_signal  = "SIGTERM"`, `kill_signal  = "SIGKILL"`, "not enough"},
		{`path     = "/admin/readyz"`, `path     = "/admin/active"`, "an update waits"},
		{"var.members", "var.names", "names"},
		{"}\n\njob", "\njob", "kv.nomad.hcl"},
	} {
		if strings.Count(string(text), c.old) == 0 {
			t.Errorf("the job has no %q", c.old)
			continue
		}
		job, err := readJob([]byte(strings.Replace(string(text), c.old, c.new, 1)), jobValues)
		var found []string
		if err != nil {
			found = append(found, err.Error())
		} else {
			found = jobFaults(job)
		}
		if !strings.Contains(strings.Join(found, "\n"), c.fault) {
			t.Errorf("%q: found %q, want %q", c.new, found, c.fault)
		}
	}
	if _, err := readJob(text, nil); err == nil {
		t.Error("it runs without a list of the members")
	}
}
