#!/bin/bash
# Runs a command in a fresh clone of the project: brings its data, runs, and keeps what came out. For pods, whose files
# end with them:    in-clone.sh prefect flow-run execute
#   GIT_REPOSITORY, GIT_BRANCH     what is cloned
#   DVC_REMOTE, DVC_ENDPOINT       where the data lies (s3://bucket/path), and the address of a server of one's own
#   PROJECT, STATE                 the folder of the clone; that of the volume which stays: dvc.lock, releases, stores
# Of the pods of an indexed job only the first keeps what came out.
set -euo pipefail
project=${PROJECT:-/srv/hinet} state=${STATE:-/state} first=$((${JOB_COMPLETION_INDEX:-0} == 0))

git clone --quiet --branch "${GIT_BRANCH:-main}" "$GIT_REPOSITORY" "$project"
cd "$project"
git fetch --quiet origin release:release 2>/dev/null || true # there is none before the first release
mkdir -p artifacts "$state"/{checkpoints,flows,releases,serving}
for kept in checkpoints flows releases serving; do ln -s "$state/$kept" "artifacts/$kept"; done
if [ -e "$state/dvc.lock" ]; then cp "$state/dvc.lock" dvc.lock; fi # of the run before
dvc remote add --quiet --local --default state "$DVC_REMOTE"
if [ -n "${DVC_ENDPOINT:-}" ]; then dvc remote modify --quiet --local state endpointurl "$DVC_ENDPOINT"; fi
dvc pull --quiet --run-cache --allow-missing

"$@" & # in the background: bash hands no signal on to a command in front
command=$! status=0
trap 'kill -TERM "$command"' TERM INT
wait "$command" || status=$?
while kill -0 "$command" 2>/dev/null; do wait "$command" || status=$?; done # a signal ends `wait` before the command

if ((first)); then
  dvc push --quiet --run-cache
  cp dvc.lock "$state/.dvc.lock.partial"
  mv "$state/.dvc.lock.partial" "$state/dvc.lock"
  if git rev-parse --quiet --verify release >/dev/null; then git push --quiet origin release; fi
fi
exit "$status"
