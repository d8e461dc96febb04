package k8stest

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	servertesting "k8s.io/apiextensions-apiserver/pkg/cmd/server/testing"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

var raceTimes = flag.Int("race.times", 200, "how often each of the two writers of TestRace writes")

const patience = time.Minute

// journals are a kind of objects whose field epoch says in whose time they were written.
var journals = schema.GroupVersionResource{Group: "baton.test", Version: "v1", Resource: "journals"}

// server is the API server of all tests.
var server *rest.Config

func TestMain(m *testing.M) {
	flag.Parse()
	klog.SetOutput(new(discard))
	klog.LogToStderr(false)
	code, err := withServer(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// A logger ends the process where the server cannot be started.
type logger struct{}

func (logger) Logf(string, ...any)              {}
func (logger) Errorf(format string, a ...any)   { fmt.Fprintf(os.Stderr, format+"\n", a...) }
func (l logger) Fatalf(format string, a ...any) { l.Errorf(format, a...); os.Exit(1) }

// withServer runs etcd and the API server meanwhile.
func withServer(run func() int) (int, error) {
	dir, err := os.MkdirTemp("", "k8sfence")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel, cfg.UnsafeNoFsync = dir+"/etcd", "fatal", true
	local, err := url.Parse("http://127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	cfg.ListenClientUrls, cfg.ListenPeerUrls = []url.URL{*local}, []url.URL{*local}
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		return 0, err
	}
	defer etcd.Close()
	select {
	case <-etcd.Server.ReadyNotify():
	case <-time.After(patience):
		return 0, fmt.Errorf("etcd is not ready within %v", patience)
	}
	// Nobody asks it, but who may do what would else be asked of a whole Kubernetes.
	kubeconfig := dir + "/kubeconfig"
	if err := os.WriteFile(kubeconfig, []byte(`{"apiVersion":"v1","kind":"Config","clusters":[{"name":"none","cluster":{"server":"http://127.0.0.1:1"}}],"contexts":[{"name":"none","context":{"cluster":"none","user":"none"}}],"current-context":"none","users":[{"name":"none","user":{}}]}`), 0o600); err != nil {
		return 0, err
	}
	s, err := servertesting.StartTestServer(logger{}, nil, []string{
		"--etcd-servers", "http://" + etcd.Clients[0].Addr().String(),
		"--authentication-skip-lookup", "--authentication-kubeconfig", kubeconfig, "--authorization-kubeconfig", kubeconfig, "--kubeconfig", kubeconfig,
		"--enable-priority-and-fairness=false",
		"--disable-admission-plugins", "NamespaceLifecycle,MutatingAdmissionWebhook,ValidatingAdmissionWebhook,ValidatingAdmissionPolicy,MutatingAdmissionPolicy",
	}, nil)
	if err != nil {
		return 0, err
	}
	defer s.TearDownFn()
	server = rest.CopyConfig(s.ClientConfig)
	server.QPS, server.Burst = -1, -1
	if err := define(); err != nil {
		return 0, err
	}
	return run(), nil
}

// define makes the kind, and waits until it is served.
func define() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := clientset.NewForConfig(server)
	if err != nil {
		return err
	}
	anything := true
	crd := &apiextensions.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "journals.baton.test"},
		Spec: apiextensions.CustomResourceDefinitionSpec{
			Group: journals.Group, Scope: apiextensions.NamespaceScoped,
			Names: apiextensions.CustomResourceDefinitionNames{Plural: "journals", Singular: "journal", Kind: "Journal", ListKind: "JournalList"},
			Versions: []apiextensions.CustomResourceDefinitionVersion{{
				Name: journals.Version, Served: true, Storage: true,
				Schema: &apiextensions.CustomResourceValidation{OpenAPIV3Schema: &apiextensions.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &anything}},
			}},
		},
	}
	if _, err := c.ApiextensionsV1().CustomResourceDefinitions().Create(ctx, crd, metav1.CreateOptions{}); err != nil {
		return err
	}
	for {
		if _, err := api().List(ctx, metav1.ListOptions{}); err == nil {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the kind is not served within %v", patience)
		}
	}
}

// api is a client of its own.
func api() dynamic.ResourceInterface {
	return dynamic.NewForConfigOrDie(server).Resource(journals).Namespace("default")
}

// journal is an object that nobody has made yet.
func journal(name string) *unstructured.Unstructured {
	u := new(unstructured.Unstructured)
	u.SetAPIVersion("baton.test/v1")
	u.SetKind("Journal")
	u.SetName(name)
	return u
}
