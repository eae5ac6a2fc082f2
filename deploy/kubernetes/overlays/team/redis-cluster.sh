#!/bin/sh
# Makes Redis nodes a cluster, or makes them known to each other again: their addresses change with their pods.
#   redis-cluster.sh REPLICAS HOST:PORT...
set -eu
replicas=$1
shift

made=no
for node in "$@"; do
  until redis-cli -h "${node%:*}" -p "${node##*:}" ping >/dev/null 2>&1; do sleep 1; done
  if redis-cli -h "${node%:*}" -p "${node##*:}" cluster info | grep -q "^cluster_slots_assigned:16384"; then made=yes; fi
done

addresses=""
for node in "$@"; do
  address=$(getent hosts "${node%:*}" | awk '{ print $1; exit }')
  addresses="$addresses $address:${node##*:}"
done

if [ "$made" = no ]; then
  # shellcheck disable=SC2086 # a word each
  exec redis-cli --cluster create $addresses --cluster-replicas "$replicas" --cluster-yes
fi
for address in $addresses; do
  redis-cli -h "${1%:*}" -p "${1##*:}" cluster meet "${address%:*}" "${address##*:}"
done
