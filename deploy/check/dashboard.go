package check

import (
	"fmt"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"

	"github.com/baton-ha/baton/ha"
)

// A query is one of a panel: what is asked, with JOB for the selector of the cluster, and how a series is named.
type query struct{ expr, legend string }

// A panel is one of the dashboard.
type panel struct {
	title, unit, what string
	queries           []query
	of                kind
}

// A kind is how a panel is drawn.
type kind int

const (
	lines kind = iota
	stacked
	number
	states
)

// A row is some panels under one title.
type row struct {
	title  string
	panels []panel
}

// quantiles asks for the p-th of a distribution, over all members or for each one.
func quantiles(metric, by, legend string, ps ...string) (all []query) {
	for _, p := range ps {
		labels := "le"
		if by != "" {
			labels = by + ", le"
		}
		name := strings.TrimSpace(legend + " p" + strings.TrimPrefix(strings.TrimPrefix(p, "0."), "0"))
		if p == "1" {
			name = strings.TrimSpace(legend + " max")
		}
		all = append(all, query{fmt.Sprintf("histogram_quantile(%s, sum by (%s) (rate(%s_bucket{JOB}[$__rate_interval])))", p, labels, metric), name})
	}
	return all
}

// stateNames are all states of a member, with the colour that each has.
var stateNames = []struct {
	state  ha.State
	colour string
}{
	{ha.Electing, "yellow"}, {ha.Standby, "blue"}, {ha.Activating, "light-green"}, {ha.Active, "green"}, {ha.Draining, "orange"},
	{ha.Failed, "red"}, {ha.Observer, "light-blue"}, {ha.Joining, "purple"}, {ha.Arbiter, "super-light-blue"},
}

// stateQuery is a member's state as a number.
func stateQuery() query {
	var parts []string
	for _, s := range stateNames {
		parts = append(parts, fmt.Sprintf(`%d * max by (instance) (baton_state{JOB, state="%s"})`, s.state, s.state))
	}
	return query{strings.Join(parts, " + "), "{{instance}}"}
}

// rows are the dashboard, from top to bottom.
func rows() []row {
	return []row{
		{"The service", []panel{
			{"Active", "none", "Which member has the role.", []query{{`max by (instance) (baton_state{JOB, state="Active"}) == 1`, "{{instance}}"}}, number},
			{"Epoch", "none", "It grows by one with each change of the role.", []query{{`max(baton_epoch{JOB})`, "epoch"}}, number},
			{"Members that are alive", "none", "As the members know each other.", []query{{`max(baton_members{JOB, liveness="Alive"})`, "alive"}}, number},
			{"Longest silence", "s", "For how long nobody had acknowledged a write in a change of the role: the longest in the time shown, as a bucket's upper bound.",
				[]query{{`histogram_quantile(1, sum by (le) (increase(baton_role_silence_seconds_bucket{JOB}[$__range])))`, "silence"}}, number},
			{"States", "none", "What each member is.", []query{stateQuery()}, states},
			{"Writes", "ops", "Records, by how their append ended.", []query{{`sum by (outcome) (rate(baton_appends_total{JOB}[$__rate_interval]))`, "{{outcome}}"}}, stacked},
			{"Time of a write", "s", "From an append to its answer.", quantiles("baton_append_seconds", "", "", "0.5", "0.99", "1"), lines},
		}},
		{"The role", []panel{
			{"Changes, by cause", "none", "Roles that have ended on a member that still runs.", []query{{`sum by (cause) (increase(baton_role_ended_total{JOB}[$__rate_interval]))`, "{{cause}}"}}, stacked},
			{"Epochs", "none", "Changes of the role, as each member saw them.", []query{{`max(increase(baton_epochs_total{JOB}[$__rate_interval]))`, "epochs"}, {`sum(increase(baton_role_taken_total{JOB}[$__rate_interval]))`, "roles taken"}}, lines},
			{"Writes that a change has cost", "none", "By how they ended for the caller.", []query{{`sum by (outcome) (increase(baton_role_appends_total{JOB}[$__rate_interval]))`, "{{outcome}}"}}, stacked},
			{"Lease left", "s", "How much longer the role is sure to last.", []query{{`max(baton_lease_seconds{JOB})`, "lease"}}, lines},
			{"Elections", "none", "Terms in which a leader became known, and those that each member led.", []query{{`max(increase(baton_elections_total{JOB}[$__rate_interval]))`, "elections"}, {`increase(baton_elections_won_total{JOB}[$__rate_interval])`, "won by {{instance}}"}}, lines},
			{"Lease renewals", "ops", "Of the Active.", []query{{`sum(rate(baton_lease_renewals_total{JOB}[$__rate_interval]))`, "renewals"}}, lines},
		}},
		{"What is wrong", []panel{
			{"Obstacles", "none", "Why a member may not have the role, or had better not.", []query{{`max by (instance, kind) (baton_obstacle{JOB})`, "{{instance}} {{kind}}"}}, lines},
			{"Problems", "none", "What is wrong without ending a member.", []query{{`max by (instance, kind, peer) (baton_problem{JOB})`, "{{instance}} {{kind}} {{peer}}"}}, lines},
			{"Members, by how they are", "none", "As the best informed member has it.", []query{{`max by (liveness) (baton_members{JOB})`, "{{liveness}}"}}, stacked},
			{"Connections refused", "ops", "That came in, by how they began.", []query{{`sum by (outcome) (rate(baton_connections_total{JOB}[$__rate_interval]))`, "{{outcome}}"}}, lines},
		}},
		{"The log", []panel{
			{"Behind, in time", "s", "By how much the state machine may be.", []query{{`max by (instance) (baton_lag_seconds{JOB})`, "{{instance}}"}}, lines},
			{"Behind, in records", "none", "By how many.", []query{{`max by (instance) (baton_lag_records{JOB})`, "{{instance}}"}, {`max by (member) (baton_member_lag_records{JOB})`, "{{member}}, as it says"}}, lines},
			{"Records applied", "ops", "By the state machine of each member.", []query{{`rate(baton_applied_index{JOB}[$__rate_interval])`, "{{instance}}"}}, lines},
			{"Time of a commit, and of Apply", "s", "From proposing a batch to learning that it is committed; and of the state machine.",
				append(quantiles("baton_commit_seconds", "", "commit", "0.5", "0.99"), quantiles("baton_apply_seconds", "", "apply", "0.5", "0.99")...), lines},
			{"Records of a batch", "none", "On average, and at most.", append([]query{{`sum(rate(baton_batch_records_sum{JOB}[$__rate_interval])) / sum(rate(baton_batch_records_count{JOB}[$__rate_interval]))`, "mean"}},
				quantiles("baton_batch_records", "", "", "0.99")...), lines},
			{"Bytes written by clients", "Bps", "In batches.", []query{{`sum(rate(baton_batch_bytes_sum{JOB}[$__rate_interval]))`, "bytes"}}, lines},
			{"Waiting", "none", "Inside the members, by for whom.", []query{{`sum by (for) (baton_queue{JOB})`, "{{for}}"}}, lines},
			{"Waiting, in bytes", "bytes", "Of records whose fate is not known yet, and of entries for the loop.", []query{{`sum(baton_appending_bytes{JOB})`, "appending"}, {`max by (instance) (baton_inbox_bytes{JOB})`, "inbox of {{instance}}"}}, lines},
			{"Calls", "ops", "By how they ended; not_active: for a member that sent them on.", []query{{`sum by (outcome) (rate(baton_calls_total{JOB}[$__rate_interval]))`, "{{outcome}}"}}, lines},
			{"Readers, and clients", "none", "Subscribers in the programs, and of clients the connections, those that call, and those that read.", []query{{`sum(baton_subscribers{JOB})`, "subscribers"}, {`sum(baton_client_sessions{JOB})`, "connections"}, {`sum(baton_callers{JOB})`, "callers"}, {`sum(baton_tails{JOB})`, "tails"}}, lines},
			{"Sessions of requests", "none", "Whose requests take effect once, as each member's state has them. At 16,384 whoever was used least lately expires.", []query{{`max by (instance) (baton_request_sessions{JOB})`, "{{instance}}"}}, lines},
			{"Their answers", "bytes", "And what else is kept for these sessions. At 4 MiB whoever was used least lately expires.", []query{{`max by (instance) (baton_request_sessions_bytes{JOB})`, "{{instance}}"}}, lines},
		}},
		{"The disks", []panel{
			{"Time of a write", "s", "Until a write to the log was durable.", quantiles("baton_disk_write_seconds", "instance", "{{instance}}", "0.99"), lines},
			{"Written", "Bps", "To the log, in whole blocks.", []query{{`rate(baton_disk_written_bytes_total{JOB}[$__rate_interval])`, "{{instance}}"}}, lines},
			{"Used", "bytes", "By each member.", []query{{`baton_disk_used_bytes{JOB}`, "{{instance}}"}}, lines},
			{"Of that, log and checkpoints", "bytes", "Of the member with the most.", []query{{`max(baton_disk_log_bytes{JOB})`, "log"}, {`max(baton_disk_checkpoint_bytes{JOB})`, "checkpoints"}}, lines},
			{"Free", "bytes", "In each member's file system.", []query{{`baton_disk_free_bytes{JOB} >= 0`, "{{instance}}"}}, lines},
			{"Checkpoints", "none", "By how they ended.", []query{{`sum by (outcome) (increase(baton_checkpoints_total{JOB}[$__rate_interval]))`, "{{outcome}}"}}, lines},
		}},
		{"Between the members", []panel{
			{"Sent", "Bps", "From member to member.", []query{{`sum by (instance, peer) (rate(baton_peer_sent_bytes_total{JOB}[$__rate_interval]))`, "{{instance}} to {{peer}}"}}, lines},
			{"Round trip", "s", "Of the network, as the kernels know it; and to the other's program and back.", []query{{`max by (instance, peer) (baton_peer_round_trip_seconds{JOB})`, "{{instance}} to {{peer}}"}, {`max by (instance, member) (baton_member_round_trip_seconds{JOB})`, "{{instance}} to the program of {{member}}"}}, lines},
			{"Not sent", "Bps", "For want of room, or of a connection.", []query{{`sum by (instance, peer) (rate(baton_peer_dropped_bytes_total{JOB}[$__rate_interval]))`, "{{instance}} to {{peer}}"}}, lines},
			{"Connected", "none", "0 where there is no connection for sending.", []query{{`min by (instance, peer) (baton_peer_connected{JOB})`, "{{instance}} to {{peer}}"}}, lines},
			{"Connected again", "none", "Connections that were made, after the first.", []query{{`sum by (instance, peer) (increase(baton_peer_connects_total{JOB}[$__rate_interval]))`, "{{instance}} to {{peer}}"}}, lines},
			{"Snapshots", "Bps", "Sent to those that are far behind, and received.", []query{{`sum(rate(baton_peer_snapshot_sent_bytes_total{JOB}[$__rate_interval]))`, "sent"}, {`sum(rate(baton_peer_snapshot_received_bytes_total{JOB}[$__rate_interval]))`, "received"}}, lines},
		}},
	}
}

const (
	jobSelector = `job="$job"`
	sourceType  = "prometheus"
)

func source() common.DataSourceRef {
	kind, uid := sourceType, "${source}"
	return common.DataSourceRef{Type: &kind, Uid: &uid}
}

// Dashboard is that of one cluster, for Grafana.
//
//lint:ignore SA1019 the newer form is read by the newest Grafana only
func Dashboard() (dashboard.Dashboard, error) {
	//lint:ignore SA1019 as above
	b := dashboard.NewDashboardBuilder("baton").
		Uid("baton").Description("A cluster that embeds baton: who is Active, and how it is.").Tags([]string{"baton", "high availability"}).
		Editable().Refresh("10s").Time("now-1h", "now").Tooltip(dashboard.DashboardCursorSyncCrosshair).
		WithVariable(dashboard.NewDatasourceVariableBuilder("source").Label("Source").Type(sourceType)).
		WithVariable(dashboard.NewQueryVariableBuilder("job").Label("Cluster").Datasource(source()).
			Query(dashboard.StringOrMap{String: cog.ToPtr("label_values(baton_epoch, job)")}).Refresh(dashboard.VariableRefreshOnTimeRangeChanged)).
		Annotation(dashboard.NewAnnotationQueryBuilder().Name("Changes of the role").Enable(true).IconColor("red").Datasource(source()).
			Expr(`max(changes(baton_epoch{` + jobSelector + `}[$__interval])) > 0`))
	for _, r := range rows() {
		b.WithRow(dashboard.NewRowBuilder(r.title))
		for _, p := range r.panels {
			b.WithPanel(p.build())
		}
	}
	return b.Build()
}

func (p panel) build() cog.Builder[dashboard.Panel] {
	var targets []cog.Builder[variants.Dataquery]
	for i, q := range p.queries {
		d := prometheus.NewDataqueryBuilder().Expr(strings.ReplaceAll(q.expr, "JOB", jobSelector)).LegendFormat(q.legend).RefId(string(rune('A' + i))).Datasource(source())
		if p.of == number {
			d.Instant()
		}
		targets = append(targets, d)
	}
	const width, height = 8, 7
	switch p.of {
	case number:
		return stat.NewPanelBuilder().Title(p.title).Description(p.what).Unit(p.unit).Datasource(source()).Targets(targets).Span(6).Height(4).
			ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})).TextMode(textMode(p)).GraphMode(common.BigValueGraphModeNone)
	case states:
		names := map[string]dashboard.ValueMappingResult{}
		for _, s := range stateNames {
			names[fmt.Sprint(int(s.state))] = dashboard.ValueMappingResult{Text: cog.ToPtr(s.state.String()), Color: cog.ToPtr(s.colour)}
		}
		return statetimeline.NewPanelBuilder().Title(p.title).Description(p.what).Datasource(source()).Targets(targets).Span(24).Height(6).
			Mappings([]dashboard.ValueMapping{{ValueMap: &dashboard.ValueMap{Type: dashboard.MappingTypeValueToText, Options: names}}})
	}
	t := timeseries.NewPanelBuilder().Title(p.title).Description(p.what).Unit(p.unit).Min(0).Datasource(source()).Targets(targets).Span(width).Height(height).
		Legend(common.NewVizLegendOptionsBuilder().DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom).ShowLegend(true))
	if p.of == stacked {
		t.FillOpacity(20).Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal))
	}
	return t
}

// textMode shows a member's name where the value is only that it is the one.
func textMode(p panel) common.BigValueTextMode {
	if strings.Contains(p.queries[0].legend, "{{") {
		return common.BigValueTextModeName
	}
	return common.BigValueTextModeValue
}
