#!/usr/bin/env bash
# ./dev test install: a fresh Debian 12, the packages, a scheduler and two workers with simulated GPUs as their units
# start them, an upgrade under a running gang, removal, purge. Every step is asserted. Root, 2 GB in /var/tmp.
#   proof.sh BUILD_DIRECTORY      a release build with package_pages
#   TUTTI_BASE=FILE.tar           a minimal Debian 12 root instead of a new one from debootstrap
#   TUTTI_PACKAGES=DIRECTORY      packages that are there already, instead of new ones
#   TUTTI_KEEP=1                  leaves the root behind
# No systemd runs in there: the ExecStart lines of the units are started by hand, with the account, the directory and
# the notify socket that systemd would give them.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
build=$(readlink -f "${1:-build/release}")
[ "$(id -u)" = 0 ] || { echo "proof.sh: needs root" >&2; exit 1; }
for tool in debootstrap systemd-analyze setpriv cpack; do
  command -v "$tool" >/dev/null || { echo "proof.sh: needs $tool" >&2; exit 1; }
done
# In namespaces of its own: whatever happens, nothing stays mounted and nothing goes on running.
if [ -z "${TUTTI_PROOF_INSIDE:-}" ]; then
  TUTTI_PROOF_INSIDE=1 exec unshare --mount --pid --fork --kill-child --propagation private "$0" "$build"
fi
mount -t proc proc /proc

work=$(mktemp -d /var/tmp/tutti-install.XXXXXX)
root=$work/root
finish() {
  local status=$?
  set +e
  [ $status = 0 ] || for log in "$root"/var/log/tutti-proof/*.log; do echo "--- $log"; tail -n 25 "$log"; done >&2
  for pid in /proc/[0-9]*; do  # all of this namespace but us
    pid=${pid#/proc/}
    [ "$pid" = 1 ] || [ "$pid" = $$ ] || kill -9 "$pid" 2>/dev/null
  done
  umount -R "$root/sys" "$root/proc" "$root/dev" 2>/dev/null
  if [ -z "${TUTTI_KEEP:-}" ]; then rm -rf --one-file-system "$work"; else echo "left behind: $root"; fi
  [ $status = 0 ] || echo "proof.sh: FAILED" >&2
  exit $status
}
trap finish EXIT

step() { printf '\033[1m==> %s (%s s)\033[0m\n' "$*" "$SECONDS" >&2; }
fail() { echo "proof.sh: $*" >&2; exit 1; }
same() { [ "$2" = "$3" ] || fail "$1: '$2', not '$3'"; }
has()  { [[ $2 == *"$3"* ]] || fail "$1: no '$3' in: $2"; }
within() {  # within SECONDS WHAT COMMAND…   until it succeeds
  local end=$((SECONDS + $1)) what=$2; shift 2
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || fail "not in time: $what"; sleep 0.2; done
}
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"; }
status_of() { local s=0; "$@" >"$work/out" 2>&1 || s=$?; echo $s; }
version_of() { inside dpkg-query -W -f '${db:Status-Abbrev}${Version}' "$1" 2>/dev/null || echo none; }
tutti() { inside TUTTI_SERVER="http://127.0.0.1:$port" TUTTI_TOKEN="$(cat "$root/var/lib/tutti/token")" tutti "$@"; }

# ------------------------------------------------------------------ services, as systemd would run them
unit() { sed -n "s/^$2=//p" "$root/usr/lib/systemd/system/$1.service" | head -1; }
listen_for() {  # NAME: a notify socket; what arrives is a line of notify.NAME
  python3 - "$root/run/tutti-proof.$1" "$work/notify.$1" <<'PY' &
import os, socket, sys
path, log = sys.argv[1:]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
if os.path.exists(path):
    os.unlink(path)
s.bind(path)
os.chmod(path, 0o666)
with open(log, "a", buffering=1) as out:
    while True:
        out.write(s.recv(8192).decode())
PY
  disown  # it is killed at the end, and nobody need hear of that
}
# start NAME UNIT CONFIG [VARIABLE=VALUE …]: PID in pid.NAME; returns when it has said READY.
start() {
  local name=$1 unit=$2 config=$3 user line directory; shift 3
  line=$(unit "$unit" ExecStart); has "ExecStart of $unit" "$line" "--config /etc/tutti/"
  line=${line/\/etc\/tutti\/*.toml/$config}
  user=$(unit "$unit" User); user=${user:-root}
  directory=$(unit "$unit" WorkingDirectory)
  local as=(); [ "$user" = root ] || as=(setpriv --reuid="$user" --regid="$user" --init-groups --no-new-privs --bounding-set=-all --inh-caps=-all)
  : >"$work/notify.$name"
  # shellcheck disable=SC2086
  inside "$@" NOTIFY_SOCKET="/run/tutti-proof.$name" WATCHDOG_USEC=4000000 setsid sh -c \
    'cd "$1" && echo $$ >"/run/tutti-proof.$2.pid" && shift 2 && exec "$@"' - "${directory:-/}" "$name" "${as[@]}" $line \
    >>"$root/var/log/tutti-proof/$name.log" 2>&1 &
  within 90 "$name ready" grep -q READY=1 "$work/notify.$name"
}
pid() { cat "$root/run/tutti-proof.$1.pid"; }
stop() {  # its main process alone, as KillMode=process and mixed have it
  local p; p=$(pid "$1")
  kill -TERM "$p"
  within 60 "$1 ended" not_running "$p"
  within 10 "$1 has said that it stops" grep -q STOPPING=1 "$work/notify.$1"  # its listener writes when it gets to it
}
not_running() { [ ! -d "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status"; }
start_all() {
  start scheduler tutti-scheduler /etc/tutti/scheduler.toml
  start n1 tutti-worker /etc/tutti/worker.toml TUTTI_NVML_DOUBLE_STATE=/var/lib/gpu-n1
  start n2 tutti-worker /etc/tutti/worker-n2.toml TUTTI_NVML_DOUBLE_STATE=/var/lib/gpu-n2
}
linked() { [ "$(tutti nodes -o json | python3 -c 'import json,sys; d=json.load(sys.stdin); print(sum(n["linked"] for n in d.get("nodes", d)))')" = 2 ]; }

# ------------------------------------------------------------------ the root
step "Packages: two versions"
export TUTTI_DEB_COMPRESSION=gzip  # quicker
if [ -n "${TUTTI_PACKAGES:-}" ]; then cp -r "$TUTTI_PACKAGES" "$work/first"; else "$here/build.sh" "$build" "" "$work/first" >/dev/null; fi
mkdir "$work/second"
for deb in "$work"/first/*.deb; do  # the same again as a newer version
  dpkg-deb -R "$deb" "$work/again"
  sed -i 's/^Version: .*/Version: 99.0/' "$work/again/DEBIAN/control"
  for file in "$work"/again/etc/tutti/*.toml; do  # with a key more: dpkg asks what to do with one that was changed
    [ ! -e "$file" ] || echo '# a-new-key = 1' >>"$file"
  done
  dpkg-deb -Zgzip -b "$work/again" "$work/second" >/dev/null
  rm -r "$work/again"
done
first=$(dpkg-deb -f "$(ls "$work"/first/tutti-scheduler_*.deb)" Version)
dpkg --compare-versions "$first" lt 99.0 || fail "version $first"

step "A fresh Debian 12"
if [ -n "${TUTTI_BASE:-}" ]; then
  mkdir "$root"; tar -C "$root" -xf "$TUTTI_BASE"
else
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -1)
  debootstrap --variant=minbase --include=adduser bookworm "$root" "${mirror:?no source of apt for bookworm}" >"$work/debootstrap.log" 2>&1 ||
    { tail -5 "$work/debootstrap.log"; fail debootstrap; }
fi
mkdir -p "$root/var/log/tutti-proof" "$root/packages"
mount -t proc proc "$root/proc"; mount --rbind /sys "$root/sys"; mount --rbind /dev "$root/dev"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"; chmod 755 "$root/usr/sbin/policy-rc.d"  # starts nothing by itself
cp -r "$work/first" "$work/second" "$root/packages/"
inside apt-get update -qq
debs() { local d=$1; shift; for p in "$@"; do (cd "$root" && ls "packages/$d/tutti-${p}"_*.deb | sed 's#^#/#'); done; }
put() { local d=$1; shift; local files; mapfile -t files < <(debs "$d" "$@")
  inside apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "${files[@]}" >"$work/apt.log" 2>&1 </dev/null || { tail -20 "$work/apt.log"; fail "apt-get install"; }; }
parts=(scheduler worker cli demo doc)

step "Install"
inside apt-get install -y -qq --no-install-recommends postgresql-15 systemd >"$work/apt.log" 2>&1 || { tail -20 "$work/apt.log"; fail "postgresql-15"; }
put first "${parts[@]}"
for p in "${parts[@]}"; do same "tutti-$p" "$(version_of "tutti-$p")" "ii $first"; done
same "the account's home" "$(inside getent passwd tutti | cut -d: -f6)" /var/lib/tutti
same "data directory" "$(inside stat -c '%U:%G %a' /var/lib/tutti)" "tutti:tutti 750"
same "worker's directory" "$(inside stat -c '%U %a' /var/lib/tutti-worker)" "root 711"
same "scheduler.toml" "$(inside stat -c '%U:%G %a' /etc/tutti/scheduler.toml)" "root:tutti 640"
same "worker.toml" "$(inside stat -c '%a' /etc/tutti/worker.toml)" 600
has conffiles "$(inside dpkg-query -W -f '${Conffiles}' tutti-scheduler)" /etc/tutti/scheduler.toml
for u in tutti-scheduler tutti-worker; do
  same "systemd-analyze verify $u" "$(systemd-analyze verify --man=no --root="$root" "$u.service" 2>&1)" ""
done
same "a stop tells the scheduler alone" "$(unit tutti-scheduler KillMode)" mixed  # and it its own PostgreSQL
same "a stop leaves attempts alone" "$(unit tutti-worker KillMode)" process
[ -s "$root/usr/share/bash-completion/completions/tutti" ] || fail "no completion"
for f in man1/tutti.1 man1/tutti-checkpoint.1 man1/tutti-gpu-sim.1 man8/tutti-scheduler.8 man8/tutti-worker.8 \
  man5/tutti-scheduler.toml.5 man5/tutti-worker.toml.5; do
  zcat "$root/usr/share/man/$f.gz" | grep -q '^.SH NAME' || fail "no $f.gz"
done
[ -x "$root/usr/lib/tutti/tutti-image" ] || fail "no tutti-image: containers need it"
same "tutti-checkpoint is beside tutti-rank, and in PATH" "$(inside readlink -f "$(inside which tutti-checkpoint)")" /usr/lib/tutti/tutti-checkpoint

step "Configure"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
conf=$root/etc/tutti
check() { inside "$1" --config "$2" "${@:3}" --check-config; }
same "as packaged" "$(status_of check tutti-scheduler /etc/tutti/scheduler.toml)" 0
same "a worker needs a scheduler" "$(status_of check tutti-worker /etc/tutti/worker.toml)" 2
has "and says so" "$(cat "$work/out")" --scheduler
printf 'lisen = "127.0.0.1:1"\n' >"$conf/bad.toml"
same "unknown key" "$(status_of check tutti-scheduler /etc/tutti/bad.toml)" 2
has "unknown key" "$(cat "$work/out")" "/etc/tutti/bad.toml:1: there is no key 'lisen'; did you mean 'listen'?"
printf '\nlease = 900\n' >"$conf/bad.toml"
same "out of range" "$(status_of check tutti-scheduler /etc/tutti/bad.toml)" 2
has "out of range" "$(cat "$work/out")" /etc/tutti/bad.toml:2
printf 'tls-cert = "/nowhere.pem"\ntls-key = "/nowhere.key"\n' >"$conf/bad.toml"
same "no such certificate" "$(status_of check tutti-scheduler /etc/tutti/bad.toml)" 1
has "no such certificate" "$(cat "$work/out")" /nowhere
printf 'db = "host=127.0.0.1 port=1 dbname=tutti"\n' >"$conf/bad.toml"
same "database, not asked" "$(status_of inside tutti-scheduler --config /etc/tutti/bad.toml --check-config)" 0
same "database, asked" "$(status_of inside tutti-scheduler --config /etc/tutti/bad.toml --check-config=full)" 1
rm "$conf/bad.toml"
sed -i "s/^# listen = .*/listen = \"127.0.0.1:$port\"/" "$conf/scheduler.toml"
inside useradd --create-home trainer
listen_for scheduler; listen_for n1; listen_for n2
for n in scheduler n1 n2; do within 10 "socket of $n" test -S "$root/run/tutti-proof.$n"; done

step "Start"
start scheduler tutti-scheduler /etc/tutti/scheduler.toml
within 60 "the scheduler leads" tutti nodes
within 30 "its watchdog is fed" grep -q WATCHDOG=1 "$work/notify.scheduler"
same "runs as" "$(awk '/^Uid:/{print $2}' "/proc/$(pid scheduler)/status")" "$(inside id -u tutti)"
tutti join-token create --uses 2 --expires-in 1h -o json | python3 -c 'import json,sys; print(json.load(sys.stdin)["token"])' >"$conf/join-token"
chmod 600 "$conf/join-token"
for n in n1 n2; do
  inside tutti-gpu-sim init --state "/var/lib/gpu-$n" --gpus 4 --model H100 --node "$n" >/dev/null
  file=$conf/worker.toml; state=/var/lib/tutti-worker
  if [ $n = n2 ]; then file=$conf/worker-n2.toml; state=/var/lib/tutti-worker-n2; cp "$conf/worker.toml" "$file"; fi
  install -d -m 0711 "$root$state"
  python3 - "$file" <<PY
import re, sys
text = open(sys.argv[1]).read()
for key, value in {"scheduler": '["http://127.0.0.1:$port"]', "join-token-file": '"/etc/tutti/join-token"', "node": '"$n"',
                   "address": '"127.0.0.1"', "state-dir": '"$state"', "job-user": '"trainer"', "cpus": "2", "memory": '"1GB"',
                   "nvml-library": '"/usr/lib/tutti/nvml-double/libnvidia-ml.so.1"', "kernel-log": '""'}.items():
    text, found = re.subn(rf"^#? ?{key} =.*$", f"{key} = {value}", text, flags=re.M)
    assert found == 1, key
open(sys.argv[1], "w").write(text)
PY
  same "worker's configuration" "$(status_of inside tutti-worker --config "${file#"$root"}" --check-config=full)" 0
done
start n1 tutti-worker /etc/tutti/worker.toml TUTTI_NVML_DOUBLE_STATE=/var/lib/gpu-n1
start n2 tutti-worker /etc/tutti/worker-n2.toml TUTTI_NVML_DOUBLE_STATE=/var/lib/gpu-n2
within 60 "both nodes" linked
within 10 "the worker's watchdog is fed" grep -q WATCHDOG=1 "$work/notify.n1"

step "Reload"
sed -i 's/^# log-level = .*/log-level = "debug"/; s/^# lease = .*/lease = 7/' "$conf/scheduler.toml"
kill -HUP "$(pid scheduler)"; kill -HUP "$(pid n1)"
within 20 "the scheduler has read it again" grep -q "configuration read again" "$root/var/log/tutti-proof/scheduler.log"
within 20 "the worker, too" grep -q "configuration read again" "$root/var/log/tutti-proof/n1.log"
within 10 "and tells of it" grep -q RELOADING=1 "$work/notify.scheduler"
has "what needs a new start" "$(cat "$root/var/log/tutti-proof/scheduler.log")" "--lease has changed"
sed -i 's/^lease = .*/# lease = 6/; s/^log-level = .*/# log-level = "info"/' "$conf/scheduler.toml"

step "A gang"
cat >"$root/root/gang.yaml" <<'YAML'
name: gang
nodes: 2
resources: {gpus: 2}
launcher: direct
checkpoint: {dir: /tmp/ckpt}
run: |
  echo $$ > /tmp/rank.$RANK; i=0
  if [ "$RANK" = 0 ]; then  # as programs of ranks do; the Python client, too
    step=$("$TUTTI_CHECKPOINT_TOOL" begin 1) && echo saved > "$step/state" && "$TUTTI_CHECKPOINT_TOOL" shard 1 state &&
      "$TUTTI_CHECKPOINT_TOOL" commit 1 --shards 1 || exit 1
  fi
  until [ -e /tmp/finish ]; do i=$((i + 1)); echo $i > /tmp/count.$RANK.new; mv /tmp/count.$RANK.new /tmp/count.$RANK; sleep 0.2; done
YAML
install -d -m 1777 "$root/tmp/ckpt"  # of whoever the job runs as
tutti submit /root/gang.yaml >/dev/null
for r in 0 1 2 3; do within 60 "rank $r counts" test -s "$root/tmp/count.$r"; done
taken() { tutti checkpoints gang -o json | grep -Eq '"step": ?1\b'; }
within 30 "the scheduler knows the gang's checkpoint" taken
counts_on() { [ "$(cat "$root/tmp/count.$1")" -gt "$2" ]; }
ranks() { cat "$root"/tmp/rank.[0-3] | tr '\n' ' '; }
before=$(ranks)

step "Upgrade under it"
marked='# the site'"'"'s own line'; echo "$marked" >>"$conf/scheduler.toml"
put second "${parts[@]}"
for p in "${parts[@]}"; do same "tutti-$p" "$(version_of "tutti-$p")" "ii 99.0"; done
has "a changed configuration stays" "$(cat "$conf/scheduler.toml")" "$marked"
has "the old program runs on" "$(readlink "/proc/$(pid n1)/exe")" deleted
# What postinst asks systemd for: try-restart.
stop scheduler; stop n1; stop n2
start_all
within 60 "both nodes again" linked
for r in 0 1 2 3; do
  within 20 "rank $r counts on" counts_on "$r" "$(cat "$root/tmp/count.$r")"
done
same "the same processes" "$(ranks)" "$before"
for p in $before; do if not_running "$p"; then fail "rank process $p is gone"; fi; done
[[ $(readlink "/proc/$(pid n1)/exe") != *deleted* ]] || fail "the new worker is the old program"
touch "$root/tmp/finish"
finished() { tutti show gang -o json | grep -Eq '"state": ?"succeeded"'; }
within 60 "the gang succeeds" finished
same "in one attempt" "$(tutti attempts gang -o json | python3 -c 'import json,sys; d=json.load(sys.stdin); print(len(d["attempts"] if isinstance(d, dict) else d))')" 1

step "Remove, and come back"
stop n1; stop n2; stop scheduler
token=$(cat "$root/var/lib/tutti/token")
inside apt-get remove -y -qq tutti-scheduler tutti-worker tutti-demo >"$work/apt.log" 2>&1 || { cat "$work/apt.log"; fail remove; }
[ ! -e "$root/usr/bin/tutti-scheduler" ] || fail "the program is still there"
has "configuration stays" "$(cat "$conf/scheduler.toml")" "$marked"
same "data stays" "$(cat "$root/var/lib/tutti/token")" "$token"
[ -s "$root/var/lib/tutti-worker/credential" ] || fail "the node's credential is gone"
rm "$conf/join-token"  # of no use any more
put second scheduler worker demo
start_all
within 60 "both nodes with their old credentials" linked
finished || fail "the finished gang is not known any more"
stop n1; stop n2; stop scheduler

step "Purge"
inside apt-get purge -y -qq tutti-scheduler tutti-worker tutti-cli tutti-demo tutti-doc >"$work/apt.log" 2>&1 || { cat "$work/apt.log"; fail purge; }
for p in "${parts[@]}"; do case $(version_of "tutti-$p") in none|un*) ;; *) fail "tutti-$p is still known: $(version_of "tutti-$p")" ;; esac; done
[ ! -e "$conf/scheduler.toml" ] && [ ! -e "$conf/worker.toml" ] && [ ! -e "$root/etc/logrotate.d/tutti-scheduler" ] || fail "configuration is still there"
[ -s "$root/var/lib/tutti/token" ] && [ -d "$root/var/lib/tutti/postgres/data" ] || fail "data is gone"
step "Installed, upgraded under a gang, removed, purged: all as it should be"
