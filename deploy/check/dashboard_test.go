package check

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"

	"github.com/baton-ha/baton/ha"
)

var rewrite = flag.Bool("rewrite", false, "write the dashboard anew")

const dashboardPath = "../grafana/baton.json"

// TestDashboard compares the dashboard with what it is made of, and has Grafana's schema read it. After a change that is meant:
//
//	go -C deploy/check test -run TestDashboard -rewrite
func TestDashboard(t *testing.T) {
	d, err := Dashboard()
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *rewrite {
		if err := os.WriteFile(dashboardPath, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(dashboardPath)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s is not what dashboard.go makes: see -rewrite", dashboardPath)
	}
	schemas := cog.NewRuntime()
	schemas.RegisterDataqueryVariant(prometheus.VariantConfig())
	for _, p := range []variants.PanelcfgConfig{stat.VariantConfig(), statetimeline.VariantConfig(), timeseries.VariantConfig()} {
		schemas.RegisterPanelcfgVariant(p)
	}
	//lint:ignore SA1019 the newer form is read by the newest Grafana only
	var read dashboard.Dashboard
	var faults cog.BuildErrors // of which it returns an empty list, which is not nil
	if err := read.UnmarshalJSONStrict(got); !errors.As(err, &faults) || len(faults) > 0 {
		t.Error(err)
	}
	if err := read.Validate(); err != nil {
		t.Error(err)
	}
	for s := ha.State(1); s.String() != ha.State(0).String(); s++ {
		if int(s) > len(stateNames) || stateNames[s-1].state != s {
			t.Errorf("the states panel does not know %v", s)
		}
	}
}
