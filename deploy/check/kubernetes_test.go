package check

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// A deployment is what is in a manifest.
type deployment struct {
	sets     []*apps.StatefulSet
	services []*core.Service
	budgets  []*policy.PodDisruptionBudget
	policies []*networking.NetworkPolicy
}

// read takes a manifest as the API server does: strictly, with defaults, and validated.
func read(manifest []byte) (d deployment, err error) {
	strict := serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict).UniversalDecoder()
	docs := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(manifest)))
	for i := 1; ; i++ {
		doc := make([]byte, 1<<20)
		n, err := docs.Read(doc)
		if errors.Is(err, io.EOF) {
			return d, nil
		}
		var o runtime.Object
		if err == nil {
			o, _, err = strict.Decode(doc[:n], nil, nil)
		}
		if err == nil {
			err = d.add(o).ToAggregate()
		}
		if err != nil {
			return d, fmt.Errorf("document %d: %w", i, err)
		}
	}
}

// add validates an object, in the namespace that it will be applied to.
func (d *deployment) add(o runtime.Object) field.ErrorList {
	o.(metav1.Object).SetNamespace("default")
	switch o := o.(type) {
	case *apps.StatefulSet:
		d.sets = append(d.sets, o)
		return appsvalidation.ValidateStatefulSet(o, appsvalidation.StatefulSetValidationOptions{}, pod.GetValidationOptionsFromPodTemplate(&o.Spec.Template, nil))
	case *core.Service:
		d.services = append(d.services, o)
		if o.Spec.ClusterIP != "" { // which the server does before it validates
			o.Spec.ClusterIPs = []string{o.Spec.ClusterIP}
		}
		return corevalidation.ValidateServiceCreate(o)
	case *policy.PodDisruptionBudget:
		d.budgets = append(d.budgets, o)
		return policyvalidation.ValidatePodDisruptionBudget(o, policyvalidation.PodDisruptionBudgetValidationOptions{})
	case *networking.NetworkPolicy:
		d.policies = append(d.policies, o)
		return networkingvalidation.ValidateNetworkPolicy(o, networkingvalidation.ValidationOptionsForNetworking(o, nil))
	}
	return field.ErrorList{field.NotSupported(nil, fmt.Sprintf("%T", o), []string{"what is known to this test"})}
}

// faults are what the API server would take all the same.
func (d *deployment) faults() (faults []string) {
	wrong := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if len(d.sets) != 1 {
		return []string{fmt.Sprintf("%d StatefulSets", len(d.sets))}
	}
	set := d.sets[0]
	c := set.Spec.Template.Spec.Containers[0]
	ports := map[string]string{}
	for _, p := range c.Ports {
		ports[p.Name] = fmt.Sprint(p.ContainerPort)
	}
	selects := func(what string, s *metav1.LabelSelector) {
		if sel, err := metav1.LabelSelectorAsSelector(s); err != nil || sel.Empty() || !sel.Matches(labels.Set(set.Spec.Template.Labels)) {
			wrong("%s does not select the pods: %v", what, err)
		}
	}
	port := func(what string, p intstr.IntOrString) {
		if ports[p.StrVal] == "" {
			wrong("%s: the pods have no port %s", what, p.String())
		}
	}
	headless := false
	for _, s := range d.services {
		selects("service "+s.Name, &metav1.LabelSelector{MatchLabels: s.Spec.Selector})
		for _, p := range s.Spec.Ports {
			port("service "+s.Name, p.TargetPort)
		}
		if s.Name == set.Spec.ServiceName {
			headless = s.Spec.ClusterIP == core.ClusterIPNone && s.Spec.PublishNotReadyAddresses
		}
	}
	if !headless {
		wrong("service %s gives no name to a pod that is not ready", set.Spec.ServiceName)
	}
	for _, b := range d.budgets {
		selects("budget "+b.Name, b.Spec.Selector)
		if b.Spec.MaxUnavailable == nil || 2*b.Spec.MaxUnavailable.IntValue() >= int(set.Spec.Replicas) {
			wrong("budget %s allows that the majority is away", b.Name)
		}
	}
	for _, p := range d.policies {
		selects("policy "+p.Name, &p.Spec.PodSelector)
		for _, in := range p.Spec.Ingress {
			for _, open := range in.Ports {
				port("policy "+p.Name, *open.Port)
				if open.Port.StrVal == "members" && len(in.From) == 0 {
					wrong("policy %s opens the members' port to everybody", p.Name)
				}
			}
		}
	}
	var members []string
	for i := range set.Spec.Replicas {
		members = append(members, fmt.Sprintf("%s-%d=%s-%d.%s:%s", set.Name, i, set.Name, i, set.Spec.ServiceName, ports["members"]))
	}
	env := map[string]string{}
	for _, e := range c.Env {
		env[e.Name] = e.Value
	}
	if want := strings.Join(members, ","); env["BATON_MEMBERS"] != want {
		wrong("BATON_MEMBERS is %s, want %s", env["BATON_MEMBERS"], want)
	}
	if set.Spec.PodManagementPolicy != apps.ParallelPodManagement {
		wrong("the first member would wait for being ready, which it is not alone")
	}
	if on := set.Spec.Template.Spec.AutomountServiceAccountToken; on == nil || *on {
		wrong("the pods have a token for the API server")
	}
	for what, probe := range map[string]*core.Probe{"liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
		if probe == nil || probe.HTTPGet == nil {
			wrong("no %s probe", what)
			continue
		}
		port(what, probe.HTTPGet.Port)
	}
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil {
		wrong("no preStop")
	}
	return faults
}

// build is kubectl apply -k, up to the sending.
func build(t *testing.T, dir string) []byte {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return manifest
}

func TestKubernetes(t *testing.T) {
	for _, dir := range []string{"plain", "tls", "handover"} {
		t.Run("kustomization="+dir, func(t *testing.T) {
			d, err := read(build(t, filepath.Join("..", "kubernetes", dir)))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range d.faults() {
				t.Error(f)
			}
			if len(d.services) != 2 || len(d.budgets) != 1 || len(d.policies) != 1 {
				t.Errorf("%d services, %d budgets, %d policies", len(d.services), len(d.budgets), len(d.policies))
			}
			spec := d.sets[0].Spec.Template.Spec
			hasTLS := slices.ContainsFunc(spec.Containers[0].Env, func(e core.EnvVar) bool { return e.Name == "BATON_TLS" })
			hasSecret := slices.ContainsFunc(spec.Volumes, func(v core.Volume) bool { return v.Secret != nil })
			if hasTLS != (dir != "plain") || hasSecret != (dir != "plain") {
				t.Errorf("BATON_TLS is there: %v, its secret: %v", hasTLS, hasSecret)
			}
		})
	}
}

// The probes ask what the service answers: without a majority nobody is ready, and nobody is restarted for it.
func TestKubernetes_Probes(t *testing.T) {
	d, err := read(build(t, "../kubernetes/plain"))
	if err != nil {
		t.Fatal(err)
	}
	pod := d.sets[0].Spec.Template.Spec.Containers[0]
	c := newCluster(t)
	probe := func(name string, p *core.Probe) int {
		status, _ := ask(http.MethodGet, c.base[name]+p.HTTPGet.Path, "")
		return status
	}
	for _, name := range memberNames {
		eventually(t, name+" is ready", func() bool { return probe(name, pod.ReadinessProbe) == http.StatusOK })
		eventually(t, name+" lives", func() bool { return probe(name, pod.LivenessProbe) == http.StatusOK })
	}
	for _, name := range memberNames[1:] {
		_ = c.running[name].Process.Kill()
		_ = c.running[name].Wait()
	}
	left := memberNames[0]
	eventually(t, left+" is ready no more", func() bool { return probe(left, pod.ReadinessProbe) == http.StatusServiceUnavailable })
	if got := probe(left, pod.LivenessProbe); got != http.StatusOK {
		t.Errorf("without a majority it would be restarted: %d", got)
	}
}

// preStop of the program that does not hand over itself does it, with the certificate that ../kubernetes/tls says how to make.
func TestKubernetes_HandOver(t *testing.T) {
	d, err := read(build(t, "../kubernetes/handover"))
	if err != nil {
		t.Fatal(err)
	}
	hook := d.sets[0].Spec.Template.Spec.Containers[0].Lifecycle.PreStop
	if hook.Exec == nil || hook.Sleep != nil {
		t.Fatalf("preStop is %v", hook)
	}
	baton, certs := filepath.Join(programs(t), "baton"), t.TempDir()
	text, err := os.ReadFile("../kubernetes/tls/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	made := regexp.MustCompile(`(?m)^#\tbaton (cert -cluster kv -out )certs(.*)$`).FindStringSubmatch(string(text))
	if made == nil {
		t.Fatal("it does not say how the certificate is made")
	}
	args := strings.Fields(made[1] + certs + made[2])
	for i, arg := range args {
		for j, name := range memberNames {
			if strings.HasPrefix(arg, fmt.Sprintf("kv-%d=", j)) {
				args[i] = name + "=127.0.0.1"
			}
		}
	}
	if out, err := exec.Command(baton, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	c := newCluster(t, "BATON_TLS="+certs)
	// Under load the others may be too slow to take over, or the role ends by itself first: then it is asked again.
	eventually(t, "preStop moves the role, and the process goes on", func() bool {
		active := c.active("")
		run := exec.Command(baton, hook.Exec.Command[1:]...)
		run.Env = []string{"BATON_ADDR=" + c.addr[active], "BATON_CLUSTER=kv", "BATON_TLS=" + certs}
		out, err := run.CombinedOutput()
		if err != nil && !strings.Contains(string(out), "hand over") {
			t.Fatalf("%v: %v: %s", run.Args, err, out)
		}
		return strings.Contains(string(out), "is Active in epoch") && !strings.HasPrefix(string(out), active+" ")
	})
}

// What is planted into the manifest is found.
func TestKubernetes_Planted(t *testing.T) {
	b, err := os.ReadFile("../kubernetes/plain/kv.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, fault string }{
		{"replicas: 3", "replica: 3", `unknown field "spec.replica"`},
		{"replicas: 3", "replicas: 5", "BATON_MEMBERS is"},
		{"replicas: 3", "replicas: -1", "must be greater than or equal to 0"},
		{"serviceName: kv-members", "serviceName: kv", "service kv gives no name"},
		{"publishNotReadyAddresses: true", "publishNotReadyAddresses: false", "gives no name"},
		{"podManagementPolicy: Parallel", "podManagementPolicy: OrderedReady", "would wait"},
		{"podManagementPolicy: Parallel", "podManagementPolicy: parallel", "must be 'OrderedReady' or 'Parallel'"},
		{"maxUnavailable: 1", "maxUnavailable: 2", "majority"},
		{"{name: http, port: 80, targetPort: http}", "{name: http, port: 80, targetPort: web}", "no port web"},
		{"    - from:\n        - podSelector:\n            matchLabels: {app.kubernetes.io/name: kv}\n      ports", "    - ports", "to everybody"},
		{"httpGet: {path: /admin/readyz, port: http}", "httpGet: {path: /admin/readyz, port: http, scheme: FTP}", "Unsupported value"},
		{"automountServiceAccountToken: false", "automountServiceAccountToken: true", "token"},
		{"capabilities: {drop: [ALL]}", "capabilities: {dorp: [ALL]}", "unknown field"},
		{"{name: data, mountPath: /data}", "{name: date, mountPath: /data}", "Not found"},
		{"storage: 10Gi", "storage: 10GB!", "quantities must match"},
		{"app.kubernetes.io/name: kv}\n  template", "app.kubernetes.io/name: vk}\n  template", "selector"},
	} {
		if bytes.Count(b, []byte(c.old)) == 0 {
			t.Errorf("the manifest has no %q", c.old)
			continue
		}
		d, err := read(bytes.Replace(b, []byte(c.old), []byte(c.new), 1))
		found := d.faults()
		if err != nil {
			found = append(found, err.Error())
		}
		if !strings.Contains(strings.Join(found, "\n"), c.fault) {
			t.Errorf("%q: found %v, want %q", c.new, found, c.fault)
		}
	}
}
