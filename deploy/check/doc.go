// Package check checks the files in deploy/ by the programs and libraries that will read them: Kubernetes' own decoders and validation, systemd,
// BuildKit's parser, Compose's loader, Prometheus and Grafana's schema; and by running what they deploy. It is a module of its own, so that these do not
// enter the go.sum of baton's users. A test whose program is missing is skipped and says what to install; with DEPLOY_NEEDED=1 it fails.
package check
