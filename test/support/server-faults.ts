import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Redis } from 'ioredis';

import { endClient, nodeClient } from './node-client.js';
import type { RedisServer } from './redis-server.js';
import { IS_CLUSTER } from './test-redis.js';
import { until } from './until.js';

interface FaultTarget {
  readonly server: RedisServer;
  readonly admin: Redis;
  /** A second client, for commands that block. */
  readonly helper: Redis;
}

/** Causes a temporary fault on the server; resolves when it is over. */
export type ServerFault = (target: FaultTarget) => Promise<void>;

/** Milliseconds; a pause of writes that is ended before. */
const LONG_PAUSE = 30_000;
const LIMIT = 25_000;

const kill = async (admin: Redis): Promise<void> => {
  await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
};

/** Redis 6.0 can only pause all clients; it does not know the mode. */
async function pauseClients(admin: Redis, time: number, mode: 'ALL' | 'WRITE'): Promise<void> {
  await admin.call('CLIENT', 'PAUSE', time, mode).catch(() => admin.call('CLIENT', 'PAUSE', time));
  await pause(time);
}

/** Saving fails because a directory has the name of the dump file. */
async function failToSave({ server, admin }: FaultTarget): Promise<void> {
  const dump = join(server.dir, 'dump.rdb');
  const isSaved = async (): Promise<boolean> => {
    await admin.call('BGSAVE').catch(() => undefined);
    return (await admin.info('persistence')).includes('rdb_last_bgsave_status:ok');
  };
  rmSync(dump, { force: true });
  mkdirSync(dump);
  await admin.config('SET', 'stop-writes-on-bgsave-error', 'yes');
  await admin.config('SET', 'save', '3600 1000000');
  await until('saving fails', async () => !(await isSaved()));
  await pause(500);
  rmSync(dump, { recursive: true });
  await until('saving works', isSaved);
}

async function followNobody(admin: Redis): Promise<void> {
  await admin.call('REPLICAOF', '127.0.0.1', '1');
  await pause(400);
  await admin.call('REPLICAOF', 'NO', 'ONE');
}

/**
 * A master of a cluster becomes the replica of its replica, and answers MOVED. Nothing is written meanwhile, so the replica, which does
 * not have to be elected, has everything. Redis 6.0 cannot pause writes alone; there the replica asks its master to do so.
 */
async function changePlaces(admin: Redis): Promise<void> {
  const port = /^slave0:ip=127\.0\.0\.1,port=(\d+)/m.exec(await admin.info('replication'))?.[1] as string;
  const replica = nodeClient(`redis://127.0.0.1:${port}`);
  const isRole = async (client: Redis, role: string): Promise<boolean> =>
    (await client.info('replication')).includes(`role:${role}`);
  const offsetOf = async (client: Redis, name: string): Promise<number> =>
    Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(await client.info('replication'))?.[1]);
  const canPause = await admin.call('CLIENT', 'PAUSE', LONG_PAUSE, 'WRITE').then(
    () => true,
    () => false,
  );
  if (canPause) {
    const goal = await offsetOf(admin, 'master_repl_offset');
    await until(
      'the replica has everything',
      async () => (await offsetOf(replica, 'slave_repl_offset')) >= goal,
      LIMIT,
    );
    await replica.call('CLUSTER', 'FAILOVER', 'TAKEOVER');
  } else await replica.cluster('FAILOVER');
  await until('the replica is the master', () => isRole(replica, 'master'), LIMIT);
  await until('the master is a replica', () => isRole(admin, 'slave'), LIMIT);
  if (canPause) await admin.call('CLIENT', 'UNPAUSE');
  endClient(replica);
}

/** Sends wait for the end of each of these faults, so none of them fails. */
export const SERVER_FAULTS: ReadonlyArray<readonly [what: string, fault: ServerFault]> = [
  ['ends all connections (CLIENT KILL)', ({ admin }) => kill(admin)],
  ['pauses all clients for a moment (CLIENT PAUSE ALL)', ({ admin }) => pauseClients(admin, 400, 'ALL')],
  [
    'pauses all writes for longer than the block time of a read (CLIENT PAUSE WRITE)',
    ({ admin }) => pauseClients(admin, 2_800, 'WRITE'),
  ],
  ['is a replica for a while (READONLY)', ({ admin }) => (IS_CLUSTER ? changePlaces(admin) : followNobody(admin))],
  ['cannot persist (MISCONF)', failToSave],
  [
    'lacks replicas (NOREPLICAS)',
    async ({ admin }) => {
      await admin.config('SET', 'min-replicas-to-write', '9');
      await pause(400);
      await admin.config('SET', 'min-replicas-to-write', '0');
    },
  ],
  [
    'is busy with a script (BUSY)',
    async ({ admin, helper }) => {
      await admin.config('SET', 'lua-time-limit', '50');
      const script = helper.eval('while true do end', 0).catch((error: Error) => error);
      const isBusy = async (): Promise<boolean> =>
        (await admin.ping().catch((error: Error) => error.message)).startsWith('BUSY');
      await until('the server replies BUSY', isBusy);
      await pause(1_000);
      await admin.script('KILL');
      await script;
    },
  ],
  [
    'has no room for connections (maxclients)',
    async ({ admin }) => {
      await admin.config('SET', 'maxclients', '1');
      await kill(admin);
      await pause(400);
      await admin.config('SET', 'maxclients', '1000');
    },
  ],
];
