#!/bin/sh
# A Slurm cluster of one node, as the first process of its own namespaces (PID, mount, network, UTS, IPC): all of it
# ends with this process, and nothing of it can be reached from outside. Everything it keeps is in the folder $1.
set -eu
cd "$1"
mkdir -m 700 munge state spool
ip link set lo up
ip addr add 192.0.2.1/32 dev lo # resolvers refuse even numbers where there is nothing but 127.0.0.1
hostname box
head -c 1024 /dev/urandom >munge/key
chmod 600 munge/key
munged --force --socket="$1/munge/socket" --key-file="$1/munge/key" --pid-file="$1/munge/pid" \
    --log-file="$1/munge/log" --seed-file="$1/munge/seed"
export SLURM_CONF="$1/slurm.conf"
slurmctld -D &
slurmd -D -N box &
while :; do
    wait
    sleep 1
done
