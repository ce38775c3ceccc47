# shellcheck shell=bash
# Sourced by .ci/run and tests/run: installs what they need; what cannot be had ends the run.

# Runs a command as root.
as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "root is needed for: $*  (run as root, or install sudo)" >&2
    return 1
  fi
}

# install_packages PROOF:PACKAGE...  installs the Debian packages whose proof, a command or a file,
# is missing.
install_packages() {
  local pair missing=()
  for pair; do
    there "${pair%%:*}" || missing+=("${pair#*:}")
  done
  if ((${#missing[@]})); then
    echo "installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  fi
  for pair; do
    there "${pair%%:*}" || { echo "missing: ${pair%%:*} (Debian package ${pair#*:})" >&2; return 1; }
  done
}

there() {
  if [[ $1 == /* ]]; then [[ -e $1 ]]; else command -v "$1" >/dev/null; fi
}

# Keeps the package postgresql-15 from making and starting a cluster of its own: tests make theirs.
no_main_cluster() {
  local file=/etc/postgresql-common/createcluster.conf
  if ! [[ -e /usr/lib/postgresql/15/bin/postgres || -e $file ]]; then
    as_root mkdir -p "${file%/*}"
    echo 'create_main_cluster = false' | as_root tee "$file" >/dev/null
  fi
}

# install_python REQUIREMENT...  into target/python, whose bin directory leads PATH from then on.
install_python() {
  local dir=$PWD/target/python
  if ! python3 -c 'import ensurepip' 2>/dev/null; then
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
  fi
  [[ -x $dir/bin/pip ]] || python3 -m venv "$dir"
  "$dir/bin/pip" install -q --disable-pip-version-check "$@"
  PATH=$dir/bin:$PATH
}

# Where cargo puts what it builds for this machine.
built() {
  echo "${CARGO_TARGET_DIR:-target}/$(rustc -vV | sed -n 's/^host: //p')"
}
