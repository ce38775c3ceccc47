# shellcheck shell=bash
# Sourced by .ci/run and tests/run. `stage NAME` begins a stage, and so ends the one before;
# the table at the end says what each took and which one failed.

stage_names=()
stage_seconds=()
stage_begun=

stage() {
  stage_end
  stage_names+=("$1")
  stage_begun=$SECONDS
  printf '\n==> %s\n' "$1"
}

stage_end() {
  if [[ -n $stage_begun ]]; then
    stage_seconds+=($((SECONDS - stage_begun)))
    printf '<== %s: %s s\n' "${stage_names[-1]}" "${stage_seconds[-1]}"
    stage_begun=
  fi
}

stage_table() {
  local code=$? i last mark
  stage_end
  last=$((${#stage_names[@]} - 1))
  printf '\n%s\n' "${0#"$PWD"/}"
  for i in "${!stage_names[@]}"; do
    mark=ok
    ((code != 0 && i == last)) && mark=FAILED
    printf '  %-22s %5s s  %s\n' "${stage_names[i]}" "${stage_seconds[i]}" "$mark"
  done
  printf '  %-22s %5s s\n' total "$SECONDS"
  return "$code"
}
trap stage_table EXIT
