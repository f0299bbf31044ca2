import type { Command } from 'commander';
import type { DelayedMessage, StreamManager } from 'nestjs-redis-streams/engine';
import { FailedError, UsageError } from '../failure.js';
import { addCount, allPages, limitOf, printFirst } from '../listing.js';
import type { CountFlag } from '../listing.js';
import { payloadJson } from '../messages.js';
import { counted } from '../numbers.js';
import { printable, printableBytes } from '../printable.js';
import { action, examples } from '../session.js';

interface Waiting {
  readonly shardId: number;
  readonly message: DelayedMessage;
}

const PAGE = 250;
const LONGEST_PAYLOAD = 60;

export function addDelayed(program: Command): void {
  const delayed = program.command('delayed').description('list or cancel delayed messages');
  addLs(delayed);
  addCancel(delayed);
}

function addLs(delayed: Command): void {
  const command = delayed.command('ls').description('list delayed messages, the next one that is due first');
  addCount(command, 100)
    .argument('<key>', 'the stream')
    .addHelpText('after', examples(['nrs delayed ls orders', 'lists what will be appended to orders, and when']))
    .action(
      action<[key: string], CountFlag>(async (session, [key], flags) => {
        const limit = limitOf(flags);
        const { output } = session;
        const found = waitingOf(await session.manager(), key, limit + 1);
        await printFirst(output, limit, found, async (waiting) => {
          if (output.isJson) return output.json(waiting.map((each) => waitingJson(key, each)));
          await output.table(['ID', 'DUE', 'SHARD', 'PAYLOAD'], waiting.map(row));
        });
      }),
    );
}

function row({ shardId, message: { id, deliverAt, payload } }: Waiting): Array<string | number> {
  return [id, deliverAt.toISOString(), shardId, printableBytes(payload, LONGEST_PAYLOAD)];
}

function waitingJson(streamKey: string, { shardId, message }: Waiting): Record<string, unknown> {
  const { id, deliverAt, headers, payload } = message;
  return { id, streamKey, shardId, deliverAt, headers, ...payloadJson(payload) };
}

function addCancel(delayed: Command): void {
  delayed
    .command('cancel')
    .description('remove delayed messages, which are then never appended')
    .argument('<key>', 'the stream')
    .argument('[id...]', 'ids that delayed ls prints, or those of receipts')
    .option('--all', 'all delayed messages of the stream')
    .option('--dry-run', 'count them, and change nothing')
    .addHelpText(
      'after',
      examples(
        ['nrs delayed cancel orders 9b899d4c876fc2eb9e-00000001@1764270506123', 'cancels one message'],
        ['nrs delayed cancel orders --all --dry-run', 'counts all that wait'],
      ),
    )
    .action(
      action<[key: string, ids: string[]], { all?: boolean; dryRun?: boolean }>(
        async (session, [key, ids], { all, dryRun }) => {
          if ((ids.length === 0) !== (all === true)) throw new UsageError('delayed cancel needs either ids or --all');
          const manager = await session.manager();
          const places = await placesOf(manager, key);
          const chosen = all || dryRun ? await waitingIds(manager, places, ids) : ids;
          const missing: string[] = [];
          if (!dryRun && chosen.length > 0) {
            await session.confirm(`This cancels ${counted(chosen.length, 'delayed message')} of '${key}'.`);
            for (const id of chosen) if (!(await cancel(manager, places, id))) missing.push(id);
          }
          const cancelled = chosen.length - missing.length;
          const { output } = session;
          const text = `${dryRun ? 'Would cancel' : 'Cancelled'} ${counted(cancelled, 'delayed message')} of ${printable(key)}`;
          if (output.isJson) await output.json([{ streamKey: key, cancelled, dryRun: dryRun === true }]);
          else await output.line(text);
          // With --all, some may have become due since.
          if (missing.length > 0 && !all) throw new FailedError(`No delayed message has the id ${missing.join(', ')}`);
        },
      ),
    );
}

/** The shards of the stream, and its own key, which need not exist while messages wait. */
async function placesOf(manager: StreamManager, key: string): Promise<Array<{ key: string; shardId: number }>> {
  const { shards } = await manager.info(key);
  const own = shards.some((shard) => shard.key === key) ? [] : [{ key, shardId: 0 }];
  return [...own, ...shards];
}

/** The ids of all delayed messages, or of those with the given ids. */
async function waitingIds(
  manager: StreamManager,
  places: ReadonlyArray<{ key: string }>,
  ids: readonly string[],
): Promise<string[]> {
  const wanted = new Set(ids);
  const found: string[] = [];
  for (const { key } of places) {
    for await (const { id } of waitingIn(manager, key)) if (wanted.size === 0 || wanted.has(id)) found.push(id);
  }
  return found;
}

function waitingIn(manager: StreamManager, key: string): AsyncGenerator<DelayedMessage> {
  return allPages(PAGE, (page) => manager.delayed(key, page));
}

/** The delayed messages of all shards, ordered by time. @param most maximum number from each shard */
async function* waitingOf(manager: StreamManager, key: string, most: number): AsyncGenerator<Waiting> {
  const found: Waiting[] = [];
  for (const { key: place, shardId } of await placesOf(manager, key)) {
    let left = most;
    for await (const message of waitingIn(manager, place)) {
      found.push({ shardId, message });
      left -= 1;
      if (left === 0) break;
    }
  }
  yield* found.sort((one, other) => one.message.deliverAt.getTime() - other.message.deliverAt.getTime());
}

async function cancel(manager: StreamManager, places: ReadonlyArray<{ key: string }>, id: string): Promise<boolean> {
  for (const { key } of places) if (await manager.cancelDelayed(key, id)) return true;
  return false;
}
