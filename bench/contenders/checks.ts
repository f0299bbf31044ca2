import type { Cluster, Redis } from 'ioredis';

/** @throws if the streams do not have that many entries together */
export async function expectAppended(redis: Redis | Cluster, keys: readonly string[], messages: number): Promise<void> {
  const lengths = await Promise.all(keys.map((key) => redis.xlen(key)));
  const appended = lengths.reduce((sum, length) => sum + length, 0);
  if (appended !== messages) throw new Error(`${appended} of ${messages} messages have been appended`);
}

/** @throws if the group has not read the whole stream, or has not acknowledged what it has read */
export async function expectAcknowledged(redis: Redis | Cluster, key: string, group: string): Promise<void> {
  const groups = (await redis.xinfo('GROUPS', key)) as unknown[][];
  const fields = groups.find((candidate) => candidate[1] === group) ?? [];
  const field = (name: string): unknown => fields[fields.indexOf(name) + 1];
  const [last] = await redis.xrevrange(key, '+', '-', 'COUNT', 1);
  const [pending, read] = [field('pending'), field('last-delivered-id')];
  if (pending === 0 && read === last?.[0]) return;
  throw new Error(
    `The group has ${String(pending)} pending entries, and has read up to ${String(read)} of ${last?.[0]}`,
  );
}
