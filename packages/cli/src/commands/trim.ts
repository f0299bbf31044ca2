import { Option } from 'commander';
import type { Command } from 'commander';
import type { ShardDetails, StreamManager } from 'nestjs-redis-streams/engine';
import { isNanoseconds, messagesOf } from '../entries.js';
import { UsageError } from '../failure.js';
import { counted, countOf, sum } from '../numbers.js';
import { printable } from '../printable.js';
import { serverTime } from '../server.js';
import { action, examples } from '../session.js';
import type { Session } from '../session.js';
import { existingStream } from '../streams.js';
import { durationOf } from '../time.js';

interface TrimFlags {
  maxLen?: string;
  minAge?: string;
  dryRun?: boolean;
}

/** What was, or would be, deleted of one key. */
interface Trimmed {
  readonly shardId: number;
  readonly trimmed: number;
  readonly firstKept?: string | undefined;
  readonly keptFor?: string | undefined;
}

type Trim = (shard: ShardDetails, dryRun: boolean) => Promise<Trimmed>;

export function addTrim(program: Command): void {
  program
    .command('trim')
    .description('delete old messages: those that every group has acknowledged, or by number or age')
    .argument('<key>', 'the stream')
    .addOption(
      new Option('--max-len <number>', 'keep this many of the newest messages of each shard, read or unread').conflicts(
        'minAge',
      ),
    )
    .option('--min-age <time>', 'delete messages older than this, read or unread: milliseconds, or 7d')
    .option('--dry-run', 'count what would be deleted, and change nothing')
    .addHelpText(
      'after',
      examples(
        ['nrs trim orders', 'deletes the messages that every group of orders has acknowledged'],
        ['nrs trim orders --max-len 100000 --dry-run', 'counts what would be deleted'],
        ['nrs trim orders --min-age 7d --yes', 'deletes messages that are older than a week, and does not ask'],
      ),
    )
    .action(
      action<[key: string], TrimFlags>(async (session, [key], { maxLen, minAge, dryRun }) => {
        const [trim, effect] = await trimmer(session, maxLen, minAge);
        const manager = await session.manager();
        const { shards } = await existingStream(manager, key);
        if (!dryRun) await session.confirm(`This deletes from '${key}' ${effect}.`);
        const trimmed: Trimmed[] = [];
        for (const shard of shards) trimmed.push(await trim(shard, dryRun === true));
        const { output } = session;
        if (output.isJson)
          return output.json(trimmed.map((each) => ({ streamKey: key, ...each, dryRun: dryRun === true })));
        const total = sum(trimmed.map((each) => each.trimmed));
        await output.line(`${dryRun ? 'Would delete' : 'Deleted'} ${counted(total, 'message')} of ${printable(key)}`);
        for (const { shardId, firstKept, keptFor } of trimmed) {
          if (keptFor === undefined || firstKept === undefined) continue;
          const place = shards.length > 1 ? ` of shard ${shardId}` : '';
          await output.warn(`Messages${place} from ${firstKept} on are kept for the group '${keptFor}'`);
        }
        if (maxLen === undefined && minAge === undefined && shards.every(({ groups }) => groups.length === 0)) {
          await output.warn(`'${key}' has no group that could acknowledge messages; use --max-len or --min-age`);
        }
      }),
    );
}

/** The function that trims a key, and a description of what it deletes. */
async function trimmer(session: Session, maxLen?: string, minAge?: string): Promise<[Trim, effect: string]> {
  if (maxLen !== undefined) {
    const kept = countOf('--max-len', maxLen, 0);
    return [trimToLength(session, kept), `all but the newest ${counted(kept, 'message')}, read or unread`];
  }
  if (minAge !== undefined) {
    const age = /^\d+$/.test(minAge) ? Number(minAge) : durationOf(minAge);
    if (age === undefined) throw new UsageError(`--min-age must be milliseconds or a time such as 7d; got '${minAge}'`);
    return [trimToAge(session, age), `messages older than ${minAge}${/\d$/.test(minAge) ? ' ms' : ''}, read or unread`];
  }
  const manager = await session.manager();
  const trim: Trim = async ({ key, shardId }, dryRun) => {
    const { trimmed, firstKept, keptFor } = await manager.trimAcknowledged(key, { dryRun });
    return { shardId, trimmed, firstKept, keptFor };
  };
  return [trim, 'the messages that every group has acknowledged'];
}

/** Exact, while the trimming of producers is approximate, which costs less. */
function trimToLength(session: Session, kept: number): Trim {
  return async ({ key, shardId, length }, dryRun) => {
    if (dryRun) return { shardId, trimmed: Math.max(0, length - kept) };
    const redis = await session.redis();
    return { shardId, trimmed: Number(await redis.call('XTRIM', session.prefix + key, 'MAXLEN', '=', kept)) };
  };
}

/** Ages are by the clock of Redis, which generates the ids. */
function trimToAge(session: Session, age: number): Trim {
  return async ({ key, shardId, lastId = '0-0' }, dryRun) => {
    const redis = await session.redis();
    const from = new Date(Math.max(0, (await serverTime(redis, session.prefix + key)) - age));
    const manager = await session.manager();
    if (dryRun) return { shardId, trimmed: await countBefore(manager, key, from) };
    try {
      const minId = `${from.getTime()}${isNanoseconds(lastId) ? '000000' : ''}`;
      const trimmed = await redis.call('XTRIM', session.prefix + key, 'MINID', '=', minId);
      return { shardId, trimmed: Number(trimmed) };
    } catch (error) {
      // Redis 6.0 has no MINID.
      if (!(error instanceof Error && /syntax error/i.test(error.message))) throw error;
      const producer = await (await session.streamer()).createGenericProducer();
      return { shardId, trimmed: await producer.trimMinTimestamp(key, from) };
    }
  };
}

async function countBefore(manager: StreamManager, key: string, before: Date): Promise<number> {
  const messages = messagesOf(manager, key, '-', { before });
  let count = 0;
  while (!(await messages.next()).done) count += 1;
  return count;
}
