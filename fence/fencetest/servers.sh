#!/usr/bin/env bash
# The servers that the fences are tested with: PostgreSQL, MariaDB and Redis from Debian's packages, on
# loopback, in a directory of their own that is removed at the end.
#
#	fence/fencetest/servers.sh install          what is missing, with apt-get (as root)
#	fence/fencetest/servers.sh run CMD ...      start them, run CMD with their addresses in the environment, end them
#	fence/fencetest/servers.sh restart NAME     under run: postgres, mariadb or redis, as after a crash
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

# start NAME runs the server of a directory, as its command says, and waits until it is there.
start() {
	local dir=$FENCE_SERVERS/$1
	(cd "$dir" && exec bash "$dir/command") </dev/null >>"$dir/log" 2>&1 &
	local pid=$!
	echo $pid >"$dir/pid"
	disown $pid # no word of it when it is killed
	wait_for "$(cat "$dir/port")" "$1" $pid "$dir/log"
}

# prepare NAME CMD ... makes its directory with the command; $port is its port.
prepare() {
	local dir=$FENCE_SERVERS/$1
	shift
	mkdir -p "$dir"
	echo "$port" >"$dir/port"
	echo "exec ${*@Q}" >"$dir/command"
}

run() {
	local pg
	pg=$(find_postgres)
	if [ -z "$pg" ] || ! [ -x /usr/sbin/mariadbd ] || ! command -v my_print_defaults >/dev/null || ! command -v redis-server >/dev/null; then
		echo "servers are missing; run: $0 install" >&2
		return 1
	fi
	FENCE_SERVERS=$(mktemp -d)
	export FENCE_SERVERS
	chmod 755 "$FENCE_SERVERS"
	trap stop EXIT
	local as=() port dir=$FENCE_SERVERS/postgres

	port=$(free_port)
	mkdir "$dir"
	if [ "$(id -u)" = 0 ]; then # PostgreSQL refuses to run as root
		as=(setpriv --reuid postgres --regid postgres --clear-groups)
		chown postgres "$dir"
	fi
	(cd "$dir" && "${as[@]}" "$pg/initdb" -D "$dir/data" -U baton -A trust -E UTF8 --no-locale) >"$dir/log" 2>&1
	prepare postgres "${as[@]}" "$pg/postgres" -D "$dir/data" -h 127.0.0.1 -p "$port" -k "$dir" -c max_connections=200
	start postgres
	export FENCE_POSTGRES="postgres://baton@127.0.0.1:$port/postgres?sslmode=disable"

	port=$(free_port)
	dir=$FENCE_SERVERS/mariadb
	mkdir "$dir"
	cat >"$dir/init.sql" <<-SQL
		CREATE DATABASE IF NOT EXISTS fence;
		CREATE USER IF NOT EXISTS baton@'127.0.0.1';
		GRANT ALL ON fence.* TO baton@'127.0.0.1';
	SQL
	mariadb-install-db --no-defaults --user="$(id -un)" --datadir="$dir/data" --skip-test-db >"$dir/log" 2>&1
	prepare mariadb mariadbd --no-defaults --user="$(id -un)" --datadir="$dir/data" --socket="$dir/sock" --bind-address=127.0.0.1 \
		--port="$port" --skip-name-resolve --init-file="$dir/init.sql" --max-connections=300
	start mariadb
	export FENCE_MARIADB="baton@tcp(127.0.0.1:$port)/fence"

	port=$(free_port)
	dir=$FENCE_SERVERS/redis
	mkdir "$dir"
	prepare redis redis-server --bind 127.0.0.1 --port "$port" --dir "$dir" --save '' --appendonly yes --appendfsync always
	start redis
	export FENCE_REDIS="127.0.0.1:$port"

	"$@"
}

# end NAME SIGNAL ends a server, and waits until it is gone.
end() {
	local pid
	pid=$(cat "$FENCE_SERVERS/$1/pid" 2>/dev/null) || return 0
	kill "-$2" "$pid" 2>/dev/null || return 0
	while kill -0 "$pid" 2>/dev/null && ! grep -qs '^State:.Z' "/proc/$pid/status"; do sleep 0.05; done
}

# restart NAME: as after a crash. PostgreSQL's processes leave at SIGQUIT without writing anything; one that is killed leaves them behind.
restart() {
	if [ "$1" = postgres ]; then end "$1" QUIT; else end "$1" KILL; fi
	start "$1"
}

stop() {
	local name
	for name in postgres mariadb redis; do
		if [ $name = postgres ]; then end $name INT; else end $name TERM; fi
	done
	rm -rf "$FENCE_SERVERS"
}

case "${1:-}" in
install) install ;;
run) shift; run "$@" ;;
restart) restart "$2" ;;
*) sed -n 's/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | sed 1d; exit 2 ;;
esac
