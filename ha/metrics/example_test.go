package metrics_test

import (
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/metrics"
)

// A member's numbers in a registry of the program's own.
func ExampleNew() {
	dir, _ := os.MkdirTemp("", "baton")
	defer os.RemoveAll(dir)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	node, err := ha.Open(ha.Config{
		Name: "a", Dir: dir, Cluster: "shop", Members: []ha.Member{{Name: "a", Addr: l.Addr().String()}}, Listener: l,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close()

	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.New(node))
	families, err := registry.Gather() // what promhttp.HandlerFor(registry, …) serves
	for _, f := range families {
		if f.GetName() == "baton_epochs_total" {
			fmt.Println(f.GetHelp(), err)
		}
	}
	// Output: Epochs that began. <nil>
}
