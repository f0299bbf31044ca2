import { Option } from 'commander';
import type { Command } from 'commander';
import type { StreamDetails, StreamManager } from 'nestjs-redis-streams/engine';
import { messagesOf } from '../entries.js';
import { CheckFoundError, FailedError, UsageError } from '../failure.js';
import { counted } from '../numbers.js';
import type { Output } from '../output.js';
import { printable } from '../printable.js';
import { repeat } from '../repeat.js';
import { action, examples } from '../session.js';
import type { Session } from '../session.js';
import { existingStream, reachableStream } from '../streams.js';
import { durationOf, readableDuration } from '../time.js';
import { behind } from './groups.js';

interface LagOptions {
  watch?: boolean;
  interval: string;
  check?: string;
  group?: string;
}

/** The messages that a group has not handled yet. */
interface GroupLag {
  readonly group: string;
  /** Entries that were not delivered; undefined where the server does not count them. */
  readonly lag: number | undefined;
  readonly lagSeconds: number | undefined;
  readonly pending: number;
  readonly consumers: number;
}

const HEAD = ['GROUP', 'LAG', 'BEHIND', 'PENDING', 'CONSUMERS'];
/** Timers of Node.js end at once after more. */
const LONGEST_INTERVAL = 24 * 86_400_000;
const CLEAR_SCREEN = '\u001b[H\u001b[J';

export function addLag(program: Command): void {
  program
    .command('lag')
    .description('show how many messages wait for each group, and for how long')
    .argument('<key>', 'the stream')
    .option('--group <group>', 'show this group')
    .addOption(new Option('-w, --watch', 'repeat until Ctrl+C').conflicts('check'))
    .option('--interval <time>', 'with --watch: time between two tables', '2s')
    .option('--check <max=N>', 'exit with 3 if a group has more than N messages that were not delivered')
    .addHelpText(
      'after',
      examples(
        ['nrs lag orders --watch', 'shows the lag of all groups of orders every two seconds'],
        [
          'nrs lag orders --check max=1000',
          'for cron and CI: exits with 3 if a group is more than 1000 messages behind',
        ],
      ),
    )
    .action(
      action<[key: string], LagOptions>(async (session, [key], options) => {
        const max = options.check === undefined ? undefined : maxOf(options.check);
        const manager = await session.manager();
        // A check must not pass because a shard could not be read.
        const details = max === undefined ? () => reachableStream(session, key) : () => existingStream(manager, key);
        const lags = async (): Promise<GroupLag[]> => lagsOf(await details(), options.group);
        if (options.watch) return watch(session, key, lags, options.interval);
        const found = await lags();
        const complete =
          max === undefined ? found : await Promise.all(found.map((each) => withCountedLag(manager, key, each, max)));
        await print(session.output, complete);
        if (max === undefined) return;
        const late = complete.filter(({ lag }) => lag === undefined || lag > max);
        if (late.length === 0) return;
        const names = late.map(({ group, lag }) => `'${group}' (${lag ?? 'unknown'})`).join(', ');
        await session.output.warn(`Groups of '${key}' that are more than ${counted(max, 'message')} behind: ${names}`);
        throw new CheckFoundError();
      }),
    );
}

function maxOf(text: string): number {
  const [, max] = /^max=(\d{1,15})$/.exec(text) ?? [];
  if (max === undefined) throw new UsageError(`--check must be max=N, for example max=1000; got '${text}'`);
  return Number(max);
}

function lagsOf({ streamKey, groups }: StreamDetails, only: string | undefined): GroupLag[] {
  if (only !== undefined && !groups.some(({ name }) => name === only)) {
    throw new FailedError(`The stream '${streamKey}' has no group '${only}'`);
  }
  return groups
    .filter(({ name }) => only === undefined || name === only)
    .map(({ name, lag, lagSeconds, pending, consumers }) => ({
      group: name,
      lag,
      lagSeconds,
      pending,
      consumers: consumers.length,
    }));
}

/** Where the server does not count, the entries after the position of the group are read: one more than `max` at most. */
async function withCountedLag(manager: StreamManager, key: string, lag: GroupLag, max: number): Promise<GroupLag> {
  if (lag.lag !== undefined) return lag;
  let count = 0;
  for (const { key: place, groups } of (await manager.info(key)).shards) {
    const group = groups.find(({ name }) => name === lag.group);
    if (!group) continue;
    for await (const { id } of messagesOf(manager, place, group.lastDeliveredId, '+')) {
      if (id !== group.lastDeliveredId) count += 1;
      if (count > max) return { ...lag, lag: count };
    }
  }
  return { ...lag, lag: count };
}

async function print(output: Output, lags: readonly GroupLag[]): Promise<void> {
  if (output.isJson) return output.json(lags);
  await output.table(HEAD, lags.map(row));
}

function row(lag: GroupLag): Array<string | number | undefined> {
  return [lag.group, lag.lag, behind(lag), lag.pending, lag.consumers];
}

/** At a terminal a table replaces the one before; elsewhere each group is a line each time. */
async function watch(session: Session, key: string, lags: () => Promise<GroupLag[]>, interval: string): Promise<void> {
  const milliseconds = durationOf(interval);
  if (milliseconds === undefined || milliseconds < 100 || milliseconds > LONGEST_INTERVAL) {
    throw new UsageError(`--interval must be a time such as 2s, from 100ms to 24d; got '${interval}'`);
  }
  const { output } = session;
  await repeat(output, session.interruption(), milliseconds, async () => {
    const found = await lags();
    const time = new Date();
    if (output.isJson) {
      for (const lag of found) await output.json({ time, streamKey: key, ...lag });
    } else if (output.isTerminal) {
      const title = `${printable(key)}  ${time.toTimeString().slice(0, 8)}  (every ${readableDuration(milliseconds)}, Ctrl+C ends)`;
      await output.line(`${CLEAR_SCREEN}${output.styled('bold', title)}\n\n${output.tableText(HEAD, found.map(row))}`);
    } else {
      for (const lag of found) await output.line([time.toISOString(), ...textOf(lag)].join('  '));
    }
  });
}

function textOf(lag: GroupLag): string[] {
  return row(lag).map((cell, index) => `${HEAD[index]?.toLowerCase()}=${printable(String(cell ?? '-'))}`);
}
