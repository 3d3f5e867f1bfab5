#!/bin/sh
# Installs what building, testing and the demo need from the system, and nothing that is there already.
#
# As root it installs; otherwise it says what it would run and asks first. Where there is no apt-get it names what is
# missing and leaves it to you. Rust itself is not installed.
set -eu

say() { printf 'deps: %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }
have_postgres() {
  for dir in "${ERRAND_TEST_POSTGRES_BIN:-}" /usr/lib/postgresql/*/bin /usr/pgsql-*/bin "$(pg_config --bindir 2>/dev/null || true)"; do
    if [ -n "$dir" ] && [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ] && [ -x "$dir/psql" ]; then return 0; fi
  done
  return 1
}

if ! have cargo; then
  say 'cargo is missing. Install Rust 1.90 or newer: https://rustup.rs' >&2
  exit 1
fi

packages=
need() { packages="$packages $1"; say "$2 is missing: package $1"; }
if ! have cc || ! printf '#include <stdlib.h>\n' | cc -E - >/dev/null 2>&1; then need 'gcc libc6-dev' 'a C compiler with its headers'; fi
have make || need make 'make'
have pkg-config || need pkg-config 'pkg-config'
{ have pkg-config && pkg-config --exists openssl; } || need libssl-dev 'OpenSSL for compiling'
have openssl || need openssl 'the openssl command (tests check our certificates with it)'
have_postgres || need postgresql 'a PostgreSQL server (tests and the demo start private ones)'
{ [ -x /usr/sbin/sshd ] && have ssh && have ssh-keygen; } || need 'openssh-server openssh-client' 'OpenSSH (tests log in to private servers)'
have dnsmasq || [ -x /usr/sbin/dnsmasq ] || need dnsmasq-base 'dnsmasq (a private DNS server for tests)'
{ [ -e /usr/lib/softhsm/libsofthsm2.so ] && have softhsm2-util && have pkcs11-tool; } || need 'softhsm2 opensc' 'SoftHSM and pkcs11-tool (a private PKCS#11 token for tests)'
python3 -c 'import venv, ensurepip' 2>/dev/null || need python3-venv 'python3 with venv'

if [ -z "$packages" ]; then exit 0; fi

install="apt-get install --yes --no-install-recommends$packages"
if ! have apt-get; then
  say "this is no Debian or Ubuntu: install the equivalents of$packages and try again" >&2
  exit 1
fi
case $packages in
  *postgresql* | *openssh-server*) say "Debian's packages also start servers of their own; nothing here uses or changes them" ;;
esac
export DEBIAN_FRONTEND=noninteractive
if [ "$(id -u)" = 0 ]; then
  say "running: $install"
  apt-get update -qq
  # shellcheck disable=SC2086 # words are wanted
  $install -qq >/dev/null
elif [ -t 0 ] && have sudo; then
  printf 'deps: run `sudo %s`? [y/N] ' "$install"
  read -r answer
  case $answer in y | Y | yes) ;; *) say 'nothing was installed' >&2; exit 1 ;; esac
  sudo apt-get update -qq
  # shellcheck disable=SC2086 # words are wanted
  sudo env DEBIAN_FRONTEND=noninteractive $install -qq >/dev/null
else
  say "not root, and nobody to ask. Run: sudo $install" >&2
  exit 1
fi
say 'done'
