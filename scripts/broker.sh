#!/usr/bin/env bash
# A Kafka broker for development and tests, with or without Docker.
#
#   up     start it unless it runs; prints its bootstrap address, and only that, on stdout
#   start  the same for a broker that was there before: same port, data kept
#   down   stop it; the data stays          kill   kill -9, for crash tests
#   wipe   stop it and remove its data      status | logs
#
# Options: --dir DIR (one broker per folder; also DRIFTLINE_BROKER_DIR), --port PORT.
# Where it comes from, first that fits:
#   DRIFTLINE_BOOTSTRAP  a broker of yours: used, never started or stopped from here
#                        (an explicit --dir asks for one of its own and wins over it)
#   Docker               if a daemon answers: the apache/kafka image
#   Java 17 and Maven    Kafka's published jars, fetched once into the cache
# DRIFTLINE_BROKER=docker or =jars forces one of the last two.
set -euo pipefail
. "$(dirname "$0")/server.sh"

KAFKA=$ROOT/scripts/kafka
VERSION=$(sed -n 's|.*<kafka.version>\(.*\)</kafka.version>.*|\1|p' "$KAFKA/pom.xml")
IMAGE=apache/kafka:$VERSION
# Jars, a formatted data folder and a class archive, shared by all brokers of this version.
HOME_DIR=$DRIFTLINE_CACHE/kafka/$VERSION
# Serial rather than G1: as fast to start and under load at this heap, and 100 MB less
# resident once it has worked (280 against 380).
JVM=(-Xms256m -Xmx512m -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError)
JVM+=("-Dlog4j2.configurationFile=$KAFKA/log4j2.properties")
START_SECONDS=90 # usually 3; a machine that is busy compiling takes ten times that

command=${1:-}
[ $# -eq 0 ] || shift
dir=${DRIFTLINE_BROKER_DIR:-$DRIFTLINE_CACHE/broker}
port=
own_dir=
while [ $# -gt 0 ]; do
  case $1 in
    --dir) dir=${2:?--dir needs a folder} own_dir=yes; shift 2 ;;
    --port) port=${2:?--port needs a number}; shift 2 ;;
    *) usage ;;
  esac
done
case $port in *[!0-9]*) die "--port $port is not a number." ;; esac
# Absolute, because it is how a broker's process is told from others.
dir=$(absolute "$dir")
if [ -d "$dir" ]; then dir=$(cd "$dir" && pwd -P); fi

given=${DRIFTLINE_BOOTSTRAP:-}
[ -z "$own_dir" ] || given=

# --- Does a broker answer? -------------------------------------------------------------

# Sends Metadata v1 for no topics. The answer counts brokers that are ready for clients: an
# open port says less (a container's port opens at once; a new broker is fenced at first).
# shellcheck disable=SC2016 # expanded by the inner shell
ASK='exec 3<>"/dev/tcp/$0/$1" || exit 2
printf "\0\0\0\16\0\3\0\1\0\0\0\1\377\377\0\0\0\0" >&3
head -c 12 <&3 | od -An -tx1 | tr -d " \n" | grep -q "^........00000001[0-9a-f]*[1-9a-f]"'

# answers HOST PORT: 0 it is ready, 2 nothing listens, other: something else listens.
answers() {
  if have timeout; then
    timeout 3 bash -c "$ASK" "$1" "$2" 2>/dev/null
  else
    bash -c "$ASK" "$1" "$2" 2>/dev/null
  fi
}

check_given() {
  local first=${given%%,*} code=0
  first=${first#*://}
  answers "${first%:*}" "${first##*:}" || code=$?
  case $code in
    0) ;;
    2 | 124) die "nothing answers at $given. Start that broker, or unset DRIFTLINE_BOOTSTRAP to have one started here." ;;
    *) say "$given takes connections but not plain Kafka requests; that is right if it speaks TLS." ;;
  esac
}

# --- The broker of this folder ---------------------------------------------------------

container() { printf 'driftline-broker-%s' "$(printf %s "$dir" | cksum | cut -d ' ' -f 1)"; }

# Prints the broker's process id if it runs. A pid file outlives its process, and the number
# may by now be another program's: only a process started with our own file counts.
pid() {
  local pid args
  pid=$(recorded broker.pid)
  case $pid in '' | *[!0-9]*) return 1 ;; esac
  if [ -d /proc/self ]; then
    args=$(tr '\0' ' ' <"/proc/$pid/cmdline") 2>/dev/null || return 1
  else
    args=$(ps -ww -o command= -p "$pid") || return 1
  fi
  case $args in *" $dir/server.properties "* | *" $dir/server.properties") echo "$pid" ;; *) return 1 ;; esac
}

running() {
  case $(recorded kind) in
    docker) [ "$(docker inspect -f '{{.State.Running}}' "$(container)" 2>/dev/null)" = true ] ;;
    *) pid >/dev/null ;;
  esac
}

# stop_with SIGNAL: TERM lets Kafka close its logs (half a second), KILL does not.
stop_with() {
  local pid i
  if [ "$(recorded kind)" = docker ]; then
    if [ "$1" = KILL ]; then docker kill "$(container)"; else docker stop -t 30 "$(container)"; fi >/dev/null
    return
  fi
  pid=$(pid) || return 0
  kill "-$1" "$pid" 2>/dev/null || true
  for ((i = 0; i < 300; i++)); do
    pid >/dev/null || break
    sleep 0.1
  done
  if pid >/dev/null; then kill -KILL "$pid" 2>/dev/null || true; fi
  rm -f "$dir/broker.pid"
}

# --- Where it comes from ---------------------------------------------------------------

docker_answers() {
  have docker || return 1
  if have timeout; then timeout 10 docker info; else docker info; fi >/dev/null 2>&1
}
jars_work() { java_17 && { [ -d "$HOME_DIR/libs" ] || have mvn; }; }

choose() {
  local kind
  kind=$(recorded kind) # data that is there already stays readable
  kind=${kind:-${DRIFTLINE_BROKER:-}}
  if [ -n "$kind" ]; then echo "$kind"
  elif docker_answers; then echo docker
  elif jars_work; then echo jars
  else die "no way to start Kafka: it needs a Docker daemon, or Java 17 and Maven (scripts/setup.sh gets those), or DRIFTLINE_BOOTSTRAP=host:port of a broker of yours."
  fi
}

random_id() { head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | cut -c 1-22; }

# Fetches the jars and does once what every new broker would otherwise do: formatting takes
# a JVM (1.5 s), so it becomes a folder to copy; an archive of loaded classes takes a third
# off each start and 40 MB off each broker.
prepare_jars() {
  local tmp=
  if [ ! -d "$HOME_DIR/libs" ]; then
    say "Fetching Kafka $VERSION (usually 10 s)."
    mkdir -p "$HOME_DIR"
    tmp=$(mktemp -d "$HOME_DIR/.fetch.XXXXXX")
    mvn_quiet -f "$KAFKA/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
      -DoutputDirectory="$tmp/libs" ||
      { rm -rf "$tmp"; die "Kafka could not be fetched. Check the network, or set DRIFTLINE_BOOTSTRAP=host:port to use a broker of yours."; }
    mv "$tmp/libs" "$HOME_DIR/libs" 2>/dev/null || true # another broker.sh was faster
    rm -rf "$tmp"
  fi
  [ ! -d "$HOME_DIR/formatted" ] || return 0

  warm=
  trap '[ -z "$warm" ] || kill -KILL "$warm"; rm -rf "$tmp"; exit 130' INT TERM
  say "Preparing Kafka for quick starts (usually 10 s)."
  tmp=$(mktemp -d "$HOME_DIR/.prepare.XXXXXX")
  properties "$tmp" "$(free_port)" "$(free_port)" >"$tmp/server.properties"
  java "${JVM[@]}" -cp "$HOME_DIR/libs/*" kafka.tools.StorageTool format -t "$(random_id)" \
    -c "$tmp/server.properties" >"$tmp/log" 2>&1 ||
    { tail -n 3 "$tmp/log" >&2; die "Kafka could not be prepared; all it said is in $tmp/log."; }
  cp -R "$tmp/data" "$tmp/formatted"
  archive "$tmp" || say "No class archive from this Java; brokers start a second slower."
  mv "$tmp/formatted" "$HOME_DIR/formatted" 2>/dev/null || true
  rm -rf "$tmp"
  trap - INT TERM
}

# Runs a broker until it has started and stops it: Java then writes down its classes.
archive() {
  local tmp=$1 i
  java "${JVM[@]}" "-XX:ArchiveClassesAtExit=$tmp/classes.jsa" -cp "$HOME_DIR/libs/*" \
    kafka.Kafka "$tmp/server.properties" >"$tmp/log" 2>&1 </dev/null 9>&- &
  warm=$!
  for ((i = 0; i < START_SECONDS * 10; i++)); do
    ! grep -q 'Kafka Server started' "$tmp/log" || break
    kill -0 "$warm" 2>/dev/null || break
    sleep 0.1
  done
  kill "$warm" 2>/dev/null || true
  wait "$warm" 2>/dev/null || true
  [ -f "$tmp/classes.jsa" ] && mv -f "$tmp/classes.jsa" "$HOME_DIR/classes.jsa"
}

# --- Starting --------------------------------------------------------------------------

# properties DIR PORT CONTROLLER_PORT
# A quorum of fixed voters: with a dynamic one the controller's port would be part of the
# data, and a broker could not come back on other ports.
properties() {
  cat "$KAFKA/server.properties" - <<END

listeners=PLAINTEXT://127.0.0.1:$2,CONTROLLER://127.0.0.1:$3
advertised.listeners=PLAINTEXT://127.0.0.1:$2
controller.quorum.voters=1@127.0.0.1:$3
log.dirs=$1/data
END
}

launch_jars() {
  local share=
  if [ ! -f "$dir/data/meta.properties" ]; then
    # The copy gets ids of its own: clients tell clusters apart by them.
    rm -rf "$dir/data"
    cp -R "$HOME_DIR/formatted" "$dir/data"
    sed -e "s/^cluster.id=.*/cluster.id=$(random_id)/" \
      -e "s/^directory.id=.*/directory.id=$(random_id)/" \
      "$HOME_DIR/formatted/meta.properties" >"$dir/data/meta.properties"
  fi
  properties "$dir" "$port" "$(free_port)" >"$dir/server.properties"
  [ ! -f "$HOME_DIR/classes.jsa" ] || share=-XX:SharedArchiveFile=$HOME_DIR/classes.jsa
  # A process group of its own: Ctrl-C in the terminal must not reach the broker.
  (
    set -m
    # shellcheck disable=SC2086 # $share may be empty
    nohup java "${JVM[@]}" $share -cp "$HOME_DIR/libs/*" kafka.Kafka "$dir/server.properties" \
      >>"$dir/broker.log" 2>&1 </dev/null 9>&- &
    echo $! >"$dir/broker.pid"
  )
}

# The image takes properties as variables: a.b-c_d becomes KAFKA_A_B___C__D.
launch_docker() {
  local key value env=()
  [ -s "$dir/cluster.id" ] || random_id >"$dir/cluster.id"
  while IFS='=' read -r key value; do
    case $key in '' | '#'* | listeners | log.dirs) continue ;; esac # these differ inside
    key=$(printf %s "$key" | sed -e 's/_/__/g' -e 's/-/___/g' | tr '.a-z' '_A-Z')
    env+=(-e "KAFKA_$key=$value")
  done < <(properties "" "$port" 9093)
  # It listens on every address of the container, so that the published port reaches it.
  env+=(-e "KAFKA_LISTENERS=PLAINTEXT://0.0.0.0:$port,CONTROLLER://127.0.0.1:9093")
  env+=(-e KAFKA_LOG_DIRS=/var/lib/kafka/data -e "CLUSTER_ID=$(cat "$dir/cluster.id")")
  env+=(-e "KAFKA_HEAP_OPTS=-Xms256m -Xmx512m")
  docker rm -f "$(container)" >/dev/null 2>&1 || true
  # The data is in a volume of the same name, so the container can be made anew each time.
  docker run -d --name "$(container)" -p "127.0.0.1:$port:$port" \
    -v "$(container):/var/lib/kafka/data" "${env[@]}" "$IMAGE" >/dev/null 2>>"$dir/broker.log" ||
    { tail -n 3 "$dir/broker.log" >&2; die "Docker could not start $IMAGE. DRIFTLINE_BROKER=jars starts it without Docker."; }
}

# Waits until clients can use it; 1 if it ended instead.
wait_ready() {
  local i
  for ((i = 0; i < START_SECONDS * 10; i++)); do
    ! answers 127.0.0.1 "$port" || return 0
    running || return 1
    sleep 0.1
  done
  return 1
}

failed() {
  [ "$(recorded kind)" != docker ] || docker logs --tail 200 "$(container)" >>"$dir/broker.log" 2>&1 || true
  grep -E 'ERROR|FATAL|Exception|error' "$dir/broker.log" | tail -n 3 | cut -c 1-300 >&2 || true
  stop_with KILL 2>/dev/null || true
  die "the broker did not start; all it said is in $dir/broker.log."
}

up() {
  local kind wanted=$port attempt began=$SECONDS
  mkdir -p "$dir" && dir=$(cd "$dir" && pwd -P)
  # Two `up` for one folder at the same time: the second waits and finds it running.
  if have flock; then
    exec 9>"$dir/lock"
    flock 9
  fi
  port=$(recorded port)
  if running; then
    [ -z "$wanted" ] || [ "$wanted" = "$port" ] ||
      die "the broker of $dir already runs on port $port; stop it first (scripts/broker.sh down)."
    wait_ready || failed
    echo "127.0.0.1:$port"
    return
  fi

  kind=$(choose)
  case $kind in docker) ;; jars) prepare_jars ;; *) die "DRIFTLINE_BROKER=$kind: docker or jars." ;; esac
  [ "$command" != start ] || wanted=${wanted:-$port}
  [ -z "$wanted" ] || ! listens "$wanted" ||
    die "port $wanted is taken by another program; choose another with --port."
  port=${wanted:-$port}
  if [ -z "$port" ] || listens "$port"; then port=$(free_port); fi

  for attempt in 1 2 3; do
    # An old log says nothing about this start; a crash test may still want the last one.
    [ ! -f "$dir/broker.log" ] || mv -f "$dir/broker.log" "$dir/broker.log.1"
    echo "$kind" >"$dir/kind"
    echo "$port" >"$dir/port"
    trap 'stop_with KILL 2>/dev/null; exit 130' INT TERM
    "launch_$kind"
    if wait_ready; then
      trap - INT TERM
      say "Kafka $VERSION ($kind) is up after $((SECONDS - began)) s; data and log in $dir."
      echo "127.0.0.1:$port"
      return
    fi
    # Between looking and binding, someone else may have taken the port.
    if [ -n "$wanted" ] || ! grep -q 'Address already in use' "$dir/broker.log"; then failed; fi
    [ "$attempt" = 3 ] || port=$(free_port)
  done
  failed
}

not_given() { [ -z "$given" ] || die "DRIFTLINE_BOOTSTRAP=$given is not this script's to $command; stop it where you started it."; }

case $command in
  up)
    if [ -n "$given" ]; then
      check_given
      echo "$given"
    else
      up
    fi
    ;;
  start)
    not_given
    [ -n "$(recorded port)" ] || die "no broker was ever started in $dir; use 'up'."
    up
    ;;
  down | kill)
    not_given
    signal=TERM
    [ "$command" = down ] || signal=KILL
    if running; then
      stop_with "$signal"
      say "Kafka stopped; its data is kept in $dir."
    else
      rm -f "$dir/broker.pid"
    fi
    ;;
  wipe)
    not_given
    # Only a folder that this script made: `--dir ~` must not cost a home.
    [ -f "$dir/kind" ] || exit 0
    ! running || stop_with TERM
    if [ "$(recorded kind)" = docker ]; then
      docker rm -f "$(container)" >/dev/null 2>&1 || true
      docker volume rm -f "$(container)" >/dev/null 2>&1 || true
    fi
    forget data server.properties broker.pid broker.log broker.log.1 cluster.id lock nohup.out
    ;;
  status)
    if [ -n "$given" ]; then
      check_given
      echo "yours at $given"
    elif running; then
      echo "running at 127.0.0.1:$(recorded port) ($(recorded kind)$(p=$(pid) && echo ", pid $p")), $dir"
    else
      echo "stopped, $dir"
      exit 1
    fi
    ;;
  logs)
    not_given
    if [ "$(recorded kind)" = docker ]; then
      docker logs --tail 200 "$(container)"
    elif [ -f "$dir/broker.log" ]; then
      tail -n 200 "$dir/broker.log"
    else
      die "no broker was ever started in $dir."
    fi
    ;;
  # For setup.sh: what could be started here, and fetching it ahead of time.
  can-start) [ -n "$given" ] || docker_answers || jars_work ;;
  prepare)
    if [ -n "$given" ]; then exit; fi
    case $(choose) in
      jars) prepare_jars ;;
      docker)
        docker image inspect "$IMAGE" >/dev/null 2>&1 || {
          say "Fetching the image $IMAGE (usually a minute)."
          docker pull -q "$IMAGE" >/dev/null || die "Docker could not fetch $IMAGE. DRIFTLINE_BROKER=jars does without Docker."
        }
        ;;
    esac
    ;;
  *) usage ;;
esac
