#!/usr/bin/env bash
# The servers that the fences are tested with: PostgreSQL, MariaDB and Redis from Debian's packages, on
# loopback, in a directory of their own that is removed at the end.
#
#	fence/fencetest/servers.sh install          what is missing, with apt-get (as root)
#	fence/fencetest/servers.sh run CMD ...      start them, run CMD with their addresses in the environment, end them
#
# Together: servers.sh install && servers.sh run go -C fence/fencetest test ./...
set -euo pipefail

find_postgres() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1; }

install() {
	local missing=()
	[ -n "$(find_postgres)" ] || missing+=(postgresql)
	[ -x /usr/sbin/mariadbd ] && command -v my_print_defaults >/dev/null || missing+=(mariadb-server-core mariadb-client-core)
	command -v redis-server >/dev/null || missing+=(redis-server)
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "install these packages: ${missing[*]}" >&2
		return 1
	fi
	local policy=/usr/sbin/policy-rc.d own=no rc=0
	if [ ! -e $policy ]; then # no package shall start a server of its own
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod +x $policy
		own=yes
	fi
	apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" || rc=$?
	[ $own = no ] || rm -f $policy
	return $rc
}

free_port() {
	local p
	while :; do
		p=$((20000 + RANDOM % 10000))
		(exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null || break
	done
	echo $p
}

# wait_for PORT NAME PID LOG
wait_for() {
	local i
	for ((i = 0; i < 600; i++)); do
		(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
		kill -0 "$3" 2>/dev/null || break
		sleep 0.1
	done
	echo "$2 did not start:" >&2
	tail -n 30 "$4" >&2
	return 1
}

run() {
	local pg
	pg=$(find_postgres)
	if [ -z "$pg" ] || ! [ -x /usr/sbin/mariadbd ] || ! command -v my_print_defaults >/dev/null || ! command -v redis-server >/dev/null; then
		echo "servers are missing; run: $0 install" >&2
		return 1
	fi
	dir=$(mktemp -d)
	chmod 755 "$dir"
	pids=()
	trap stop EXIT
	local as=() port
	mkdir "$dir/pg" "$dir/redis" "$dir/maria"
	if [ "$(id -u)" = 0 ]; then # PostgreSQL refuses to run as root
		as=(setpriv --reuid postgres --regid postgres --clear-groups)
		chown postgres "$dir/pg"
	fi

	port=$(free_port)
	(cd "$dir/pg" && "${as[@]}" "$pg/initdb" -D "$dir/pg/data" -U baton -A trust -E UTF8 --no-locale) >"$dir/pg.log" 2>&1
	(cd "$dir/pg" && exec "${as[@]}" "$pg/postgres" -D "$dir/pg/data" -h 127.0.0.1 -p "$port" -k "$dir/pg" -c max_connections=200) >>"$dir/pg.log" 2>&1 &
	pids+=($!)
	wait_for "$port" PostgreSQL $! "$dir/pg.log"
	export FENCE_POSTGRES="postgres://baton@127.0.0.1:$port/postgres?sslmode=disable"

	port=$(free_port)
	cat >"$dir/init.sql" <<-SQL
		CREATE DATABASE IF NOT EXISTS fence;
		CREATE USER IF NOT EXISTS baton@'127.0.0.1';
		GRANT ALL ON fence.* TO baton@'127.0.0.1';
	SQL
	mariadb-install-db --no-defaults --user="$(id -un)" --datadir="$dir/maria/data" --skip-test-db >"$dir/maria.log" 2>&1
	mariadbd --no-defaults --user="$(id -un)" --datadir="$dir/maria/data" --socket="$dir/maria/sock" --bind-address=127.0.0.1 \
		--port="$port" --skip-name-resolve --init-file="$dir/init.sql" --max-connections=300 >>"$dir/maria.log" 2>&1 &
	pids+=($!)
	wait_for "$port" MariaDB $! "$dir/maria.log"
	export FENCE_MARIADB="baton@tcp(127.0.0.1:$port)/fence"

	port=$(free_port)
	redis-server --bind 127.0.0.1 --port "$port" --dir "$dir/redis" --save '' --appendonly yes --appendfsync always >"$dir/redis.log" 2>&1 &
	pids+=($!)
	wait_for "$port" Redis $! "$dir/redis.log"
	export FENCE_REDIS="127.0.0.1:$port"

	"$@"
}

stop() {
	local p
	for p in "${pids[@]}"; do kill -INT "$p" 2>/dev/null || true; kill -TERM "$p" 2>/dev/null || true; done
	for p in "${pids[@]}"; do wait "$p" 2>/dev/null || true; done
	rm -rf "$dir"
}

case "${1:-}" in
install) install ;;
run) shift; run "$@" ;;
*) sed -n 's/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | sed 1d; exit 2 ;;
esac
