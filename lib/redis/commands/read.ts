import type { Command, CommandArgument } from '../wire/resp-writer.js';
import { entriesOf } from '../wire/stream-entry.js';
import type { CommandSender } from './command-sender.js';
import type { TimestampFormat } from './entry-id.js';
import { classifyRedisError } from './redis-error.js';
import { parseStreamInfo } from './replies.js';
import { replyUnlessUnreachable, requireAnyMaster } from './node-commands.js';
import { READ_OWNED } from '../scripts/shard-leases.js';
import { leaseKey, leaseText, scriptsMissing } from './shard-leases.js';
import type {
  GroupReadRequest,
  OwnedReadRequest,
  ReadCommands,
  ReadRequest,
  ScanPage,
  StreamEntry,
  StreamInfo,
  StreamPage,
} from './stream-commands.js';
import { timestampFormatIn } from './timestamp-format.js';

const SCAN_PAGE = 500;

/** In a cluster the cursor of a scan also contains the number of the master that is scanned; no cluster has more. */
const MAX_MASTERS = 16_384n;

/** XREADGROUP, XREAD and the commands that look at streams without changing them. */
export class RedisReadCommands implements ReadCommands {
  readonly #sender: CommandSender;

  constructor(sender: CommandSender) {
    this.#sender = sender;
  }

  async readGroup(request: GroupReadRequest): Promise<StreamPage[]> {
    const { group, consumer, count, block, expectsSeveral, noAck, streamKeys, onCount } = request;
    const keys = streamKeys.map((key) => this.#sender.key(key));
    const [first] = keys as [string, ...string[]];
    const command = (most: number, wait?: number): Command => [
      'XREADGROUP',
      'GROUP',
      group,
      consumer,
      ...limits(most, wait),
      ...(noAck ? ['NOACK'] : []),
      'STREAMS',
      ...keys,
      ...keys.map(() => '>'),
    ];
    // Redis answers a read that waits at the first XADD of a batch, with one entry. A second read in the same write, which does not wait,
    // is executed after the whole batch, and both replies leave together.
    const commands = expectsSeveral ? [command(1, block), command(count - 1)] : [command(count, block)];
    return this.#sender.pages(first, commands, onCount);
  }

  async readOwned({ shards, count }: OwnedReadRequest): Promise<StreamPage[]> {
    const [[first] = []] = shards;
    if (!first) return [];
    // In Cluster the shards of one script must be of one slot.
    if (this.#sender.router.isCluster && shards.length > 1) {
      const reads = await Promise.allSettled(shards.map((shard) => this.readOwned({ shards: [shard], count })));
      const pages = reads.flatMap((read) => (read.status === 'fulfilled' ? read.value : []));
      const failed = reads.find(({ status }) => status === 'rejected') as PromiseRejectedResult | undefined;
      // What was read is pending already; the failure comes again with the next read.
      if (failed && pages.length === 0) throw failed.reason;
      return pages;
    }
    const keys = shards.flatMap(([lease]) => [this.#sender.key(lease.streamKey), leaseKey(this.#sender, lease)]);
    const known = shards.flatMap(([lease, after]) => [leaseText(lease), after]);
    const args = [first.group, first.consumer, count, ...known];
    const scripted = await this.#sender.runPages(READ_OWNED, keys as [string, ...string[]], args);
    if (!scripted) throw scriptsMissing();
    return scripted.reply;
  }

  async read({ positions, count, block, expectsSeveral }: ReadRequest): Promise<StreamPage[]> {
    const keys = positions.map(([key]) => this.#sender.key(key));
    const [first] = keys as [string, ...string[]];
    const command = (most: number, wait?: number): Command => [
      'XREAD',
      ...limits(most, wait),
      'STREAMS',
      ...keys,
      ...positions.map(([, afterId]) => afterId),
    ];
    if (!expectsSeveral) return this.#sender.pages(first, [command(count, block)]);
    const pages = await this.#sender.pages(first, [command(1, block), command(count)]);
    // The second read begins where the first began. If the first entry was removed in between, both have one more than `count`.
    for (const { entries } of pages) entries.splice(count);
    return pages;
  }

  async range(streamKey: string, from: string, to: string, count?: number): Promise<StreamEntry[]> {
    const key = this.#sender.key(streamKey);
    return entriesOf(await this.#sender.raw(key, ['XRANGE', key, from, to, ...limitOf(count)]));
  }

  async rangeBackwards(streamKey: string, from: string, to: string, count?: number): Promise<StreamEntry[]> {
    const key = this.#sender.key(streamKey);
    return entriesOf(await this.#sender.raw(key, ['XREVRANGE', key, to, from, ...limitOf(count)]));
  }

  async scan(cursor: string, { skipUnreachable } = { skipUnreachable: false }): Promise<ScanPage> {
    const { keyPrefix, router, timeout } = this.#sender;
    // Whether there are other masters, whose keys would be left out, is known after the first connection only.
    if (router.isCluster === undefined) await router.reached(timeout);
    const match = keyPrefix ? ['MATCH', `${escapeGlob(keyPrefix)}*`] : [];
    const isCluster = router.isCluster ?? false;
    const [index, position] = isCluster ? masterAndCursor(cursor) : [0, cursor];
    const command: Command = ['SCAN', position, ...match, 'COUNT', SCAN_PAGE, 'TYPE', 'stream'];
    const send = (): ReturnType<CommandSender['textOfMaster']> => this.#sender.textOfMaster(index, command);
    const answer = skipUnreachable ? await replyUnlessUnreachable(router, index, send) : { reply: await send() };
    if (!answer) return this.#pageWithout(index);
    const found = answer.reply;
    // The cluster has become smaller.
    if (!found) return { cursor: '0', streams: [], unreachable: [] };
    const [next, keys] = found.reply as [string, string[]];
    const streams = keys.map((key) => this.#sender.streamKey(key));
    const unreachable: string[] = [];
    if (!isCluster) return { cursor: next, streams, unreachable };
    if (next !== '0') return { cursor: clusterCursor(index, next), streams, unreachable };
    return { cursor: index + 1 < found.masters ? clusterCursor(index + 1, next) : '0', streams, unreachable };
  }

  /** In place of the rest of a master that does not answer. @throws ConnectionError when none does */
  #pageWithout(index: number): ScanPage {
    const { router } = this.#sender;
    requireAnyMaster(router);
    const address = router.connectionOf(index)?.address;
    const cursor = router.connectionOf(index + 1) ? clusterCursor(index + 1, '0') : '0';
    return { cursor, streams: [], unreachable: address === undefined ? [] : [address] };
  }

  async streamInfo(streamKey: string): Promise<StreamInfo | undefined> {
    const key = this.#sender.key(streamKey);
    try {
      return parseStreamInfo(await this.#sender.text(key, ['XINFO', 'STREAM', key]));
    } catch (error) {
      if (classifyRedisError(error) === 'stream-gone') return undefined;
      throw error;
    }
  }

  timestampFormat(streamKey: string): Promise<TimestampFormat> {
    return timestampFormatIn(this.#sender, this.#sender.key(streamKey));
  }

  async length(streamKey: string): Promise<number> {
    const key = this.#sender.key(streamKey);
    return Number(await this.#sender.text(key, ['XLEN', key]));
  }

  async memoryUsage(streamKey: string): Promise<number | undefined> {
    const key = this.#sender.key(streamKey);
    const bytes = await this.#sender.text(key, ['MEMORY', 'USAGE', key]);
    return typeof bytes === 'number' ? bytes : undefined;
  }

  async isStream(streamKey: string): Promise<boolean> {
    return (await this.typeOf(streamKey)) === 'stream';
  }

  async typeOf(streamKey: string): Promise<string> {
    const key = this.#sender.key(streamKey);
    return String(await this.#sender.text(key, ['TYPE', key]));
  }
}

function limits(count: number, block: number | undefined): CommandArgument[] {
  return ['COUNT', count, ...(block === undefined ? [] : ['BLOCK', block])];
}

function clusterCursor(master: number, cursor: string): string {
  return String(BigInt(cursor) * MAX_MASTERS + BigInt(master));
}

function masterAndCursor(cursor: string): [master: number, cursor: string] {
  const both = BigInt(cursor);
  return [Number(both % MAX_MASTERS), String(both / MAX_MASTERS)];
}

function escapeGlob(text: string): string {
  return text.replace(/[\\*?[\]]/g, '\\$&');
}

function limitOf(count: number | undefined): Array<string | number> {
  return count === undefined ? [] : ['COUNT', count];
}
