package k8stest

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	servertesting "k8s.io/apiextensions-apiserver/pkg/cmd/server/testing"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

var raceTimes = flag.Int("race.times", 1000, "how often each of the two writers of TestRace writes")

const patience = 2 * time.Minute

// journals are a kind of objects whose field epoch says in whose time they were written.
var journals = schema.GroupVersionResource{Group: "baton.test", Version: "v1", Resource: "journals"}

// An apiServer is a process with etcd and an API server. It prints a line when it serves; where, it writes into a file, since
// port and keys are new with each start.
type apiServer struct{ Dir string }

// reached says how a server is reached.
type reached struct {
	Host, Token, Name string
	Authority         []byte
}

func (s *apiServer) path() string { return s.Dir + "/reached" }

// reach is a client's configuration for the server as it was started last.
func (s *apiServer) reach() (*rest.Config, error) {
	b, err := os.ReadFile(s.path())
	var r reached
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	return &rest.Config{
		Host: r.Host, BearerToken: r.Token, QPS: -1, Burst: -1,
		TLSClientConfig: rest.TLSClientConfig{ServerName: r.Name, CAData: r.Authority},
	}, err
}

// A logger ends the process where the server cannot be started.
type logger struct{}

func (logger) Logf(string, ...any)              {}
func (logger) Errorf(format string, a ...any)   { fmt.Fprintf(os.Stderr, format+"\n", a...) }
func (l logger) Fatalf(format string, a ...any) { l.Errorf(format, a...); os.Exit(1) }

// run is the process.
func (s *apiServer) run() error {
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel, cfg.UnsafeNoFsync = s.Dir+"/etcd", "fatal", true
	local, err := url.Parse("http://127.0.0.1:0")
	if err != nil {
		return err
	}
	cfg.ListenClientUrls, cfg.ListenPeerUrls = []url.URL{*local}, []url.URL{*local}
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	defer etcd.Close()
	select {
	case <-etcd.Server.ReadyNotify():
	case <-time.After(patience):
		return fmt.Errorf("etcd is not ready within %v", patience)
	}
	// Nobody asks it, but who may do what would else be asked of a whole Kubernetes.
	kubeconfig := s.Dir + "/kubeconfig"
	if err := os.WriteFile(kubeconfig, []byte(`{"apiVersion":"v1","kind":"Config","clusters":[{"name":"none","cluster":{"server":"http://127.0.0.1:1"}}],"contexts":[{"name":"none","context":{"cluster":"none","user":"none"}}],"current-context":"none","users":[{"name":"none","user":{}}]}`), 0o600); err != nil {
		return err
	}
	api, err := servertesting.StartTestServer(logger{}, nil, []string{
		"--etcd-servers", "http://" + etcd.Clients[0].Addr().String(),
		"--authentication-skip-lookup", "--authentication-kubeconfig", kubeconfig, "--authorization-kubeconfig", kubeconfig, "--kubeconfig", kubeconfig,
		"--enable-priority-and-fairness=false",
		"--disable-admission-plugins", "NamespaceLifecycle,MutatingAdmissionWebhook,ValidatingAdmissionWebhook,ValidatingAdmissionPolicy,MutatingAdmissionPolicy",
	}, nil)
	if err != nil {
		return err
	}
	c := api.ClientConfig
	b, err := json.Marshal(reached{c.Host, c.BearerToken, c.ServerName, c.CAData})
	if err == nil {
		err = os.WriteFile(s.path()+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(s.path()+".new", s.path())
	}
	if err != nil {
		return err
	}
	fmt.Println("it serves")
	select {} // the test kills it
}

// server is the API server of all tests.
var server struct {
	apiServer
	process *process
	config  atomic.Pointer[rest.Config]
}

// withServer runs the API server meanwhile.
func withServer(run func() int) (code int, err error) {
	if server.Dir, err = os.MkdirTemp("", "k8sfence"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(server.Dir)
	if err := startServer(); err != nil {
		return 0, err
	}
	defer func() { server.process.kill() }()
	if err := define(); err != nil {
		return 0, err
	}
	return run(), nil
}

// startServer starts the API server, or starts it again.
func startServer() error {
	p, err := spawn(child{Server: &server.apiServer})
	if err != nil {
		return err
	}
	server.process = p
	select {
	case _, ok := <-p.lines:
		if !ok {
			return errors.New("the API server has ended")
		}
	case <-time.After(patience):
		return fmt.Errorf("no API server within %v", patience)
	}
	config, err := server.reach()
	server.config.Store(config)
	return err
}

// restartServer kills the API server and its etcd, and starts them again with what they have on their disk.
func restartServer() error {
	server.process.kill()
	if err := startServer(); err != nil {
		return err
	}
	return served()
}

// define makes the kind, and waits until it is served.
func define() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := clientset.NewForConfig(server.config.Load())
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
	if _, err := c.ApiextensionsV1().CustomResourceDefinitions().Create(ctx, crd, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return served()
}

// served waits until the kind is served.
func served() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		_, err := api().List(ctx, metav1.ListOptions{})
		if err == nil {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the kind is not served within %v: %w", patience, err)
		}
	}
}

// api is a client of its own.
func api() dynamic.ResourceInterface { return client(server.config.Load()) }

func client(c *rest.Config) dynamic.ResourceInterface {
	return dynamic.NewForConfigOrDie(c).Resource(journals).Namespace("default")
}

// journal is an object that nobody has made yet.
func journal(name string) *unstructured.Unstructured {
	u := new(unstructured.Unstructured)
	u.SetAPIVersion("baton.test/v1")
	u.SetKind("Journal")
	u.SetName(name)
	return u
}
