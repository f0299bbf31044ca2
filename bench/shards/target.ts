import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';

import { Redis } from 'ioredis';

import type { RedisStreamsConnection } from '../../lib/index.js';
import { JOIN_OWNERS, READ_OWNED, RENEW_SHARD, TAKE_OVER_SHARD } from '../../lib/redis/scripts/shard-leases.js';
import { RedisCluster } from '../../test/support/redis-cluster.js';
import { RedisServer } from '../../test/support/redis-server.js';

/** The Redis of a measurement: one server, or a cluster of three masters on this machine. */
export interface Target {
  readonly name: Topology;
  readonly connection: RedisStreamsConnection;
  readonly admins: readonly Redis[];
  stop(): Promise<void>;
}

export type Topology = 'single' | 'cluster';

export const TOPOLOGY_NAMES: Readonly<Record<Topology, string>> = { single: 'one server', cluster: 'cluster' };

export function topologyOf(name: string): Topology {
  if (name === 'single' || name === 'cluster') return name;
  throw new Error(`There is no topology '${name}', only single and cluster`);
}

export async function startTarget(topology: Topology): Promise<Target> {
  if (topology === 'cluster') {
    const cluster = await RedisCluster.start();
    const admins = cluster.masters.map(({ admin }) => admin);
    return { name: topology, connection: cluster.connection, admins, stop: () => cluster.stop() };
  }
  const server = await RedisServer.start({ args: ['--appendonly', 'no', '--save', ''] });
  const admin = new Redis(server.url);
  const stop = async (): Promise<void> => {
    admin.disconnect();
    await server.stop();
  };
  return { name: topology, connection: server.url, admins: [admin], stop };
}

/** Microseconds of CPU, and commands, of all servers since their start. */
export async function serverCost({ admins }: Target): Promise<{ commands: number; cpu: number }> {
  const infos = await Promise.all(admins.map((admin) => admin.info()));
  const sum = (pattern: RegExp): number => infos.reduce((total, info) => total + Number(pattern.exec(info)?.[1]), 0);
  const cpu = sum(/^used_cpu_user:(\S+)/m) + sum(/^used_cpu_sys:(\S+)/m);
  return { commands: sum(/^total_commands_processed:(\d+)/m), cpu: cpu * 1e6 };
}

/** Commands that clients send to all servers in a time, in milliseconds. Scripts count by their names, what they call does not count. */
export async function commandsDuring({ admins }: Target, time: number): Promise<Map<string, number>> {
  const scripts = new Map([RENEW_SHARD, JOIN_OWNERS, READ_OWNED, TAKE_OVER_SHARD].map(({ sha, name }) => [sha, name]));
  const counts = new Map<string, number>();
  const monitors = admins.map((admin) => connect(admin.options.port as number, admin.options.host as string));
  for (const monitor of monitors) {
    monitor.write('MONITOR\r\n');
    createInterface({ input: monitor }).on('line', (line) => {
      const [, source, command, first] = /^\+\S+ \[\d+ (\S+)\] "([^"]+)"(?: "([^"]*)")?/.exec(line) ?? [];
      if (command === undefined || source === 'lua') return;
      const name = scripts.get(first ?? '') ?? command.toLowerCase();
      counts.set(name, (counts.get(name) ?? 0) + 1);
    });
  }
  await pause(time);
  for (const monitor of monitors) monitor.destroy();
  return counts;
}

/** Connections whose name matches, on all servers. */
export async function connectionsOf({ admins }: Target, name = /^nestjs-redis-streams/): Promise<number> {
  const lists = await Promise.all(admins.map((admin) => admin.client('LIST')));
  const names = [...lists.join('').matchAll(/ name=(\S*) /g)].map(([, found]) => found as string);
  return names.filter((found) => name.test(found)).length;
}
