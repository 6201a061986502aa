#!/usr/bin/env bash
# A real SLURM with one node, this machine, for as long as you need it (Debian or Ubuntu, as root):
#
#   apt-get install slurm-wlm munge
#   benchmarks/cluster.sh start
#   ./run_all.sh smoke --profile profiles/slurm
#   benchmarks/cluster.sh stop
#
# It pretends to have four cores. Without accounting Snakemake asks `squeue` how its jobs fare, which
# remembers ended ones for an hour.
set -euo pipefail

STATE=/var/spool/slurm-here
CONF=/etc/slurm/slurm.conf

configure() {
    local node memory
    node="$(hostname -s)"
    memory="$(awk '/MemTotal/ { print int($2 / 1024 * 0.9) }' /proc/meminfo)"
    [[ ! -e $CONF || -d $STATE ]] || { echo "$CONF: this machine is part of a cluster already" >&2; exit 1; }
    mkdir -p /etc/slurm "$STATE"/{state,spool,log}
    cat >"$CONF" <<CONF
ClusterName=here
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$STATE/state
SlurmdSpoolDir=$STATE/spool
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/log/slurmctld.log
SlurmdLogFile=$STATE/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=1,sched_interval=5
MinJobAge=3600
PropagatePrioProcess=1
SlurmdParameters=config_overrides
KillWait=10
ReturnToService=2
NodeName=$node NodeAddr=127.0.0.1 CPUs=4 RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=$node Default=YES MaxTime=1-00:00:00 DefMemPerCPU=1000 State=UP
CONF
}

case "${1:-}" in
    start)
        configure
        pgrep -x munged >/dev/null || { install -d -o munge -g munge /run/munge && runuser -u munge -- munged; }
        slurmctld && slurmd
        for _ in $(seq 30); do
            [[ "$(sinfo --noheader --format %t 2>/dev/null)" == idle ]] && break
            sleep 1
        done
        sinfo
        ;;
    stop)
        scontrol shutdown && sleep 5 || true  # they write their state as they end
        rm -rf "$STATE" "$CONF"
        ;;
    *)
        sed -n '2,9s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
esac
