import type { CommandSender } from './command-sender.js';
import { PageDecoder, noSchema } from '../wire/page-decoder.js';
import { classifyRedisError } from './redis-error.js';
import { DecodedCommand } from '../wire/reply-tap.js';
import type {
  GroupReadRequest,
  ReadCommands,
  ReadRequest,
  StreamEntry,
  StreamInfo,
  StreamPage,
} from './stream-commands.js';
import { parseEntries, parsePages, parseStreamInfo } from './replies.js';

const SCAN_PAGE = 500;

/** In a cluster the cursor of a scan also says which master is being asked; no cluster has more. */
const MAX_MASTERS = 16_384n;

/** XREADGROUP, XREAD and what else looks at streams without changing them. */
export class RedisReadCommands implements ReadCommands {
  readonly #sender: CommandSender;
  readonly #lastLayout = noSchema();

  constructor(sender: CommandSender) {
    this.#sender = sender;
  }

  async readGroup(request: GroupReadRequest): Promise<StreamPage[]> {
    const args: Array<string | number> = ['GROUP', request.group, request.consumer, 'COUNT', request.count];
    if (request.block !== undefined) args.push('BLOCK', request.block);
    if (request.noAck) args.push('NOACK');
    args.push(
      'STREAMS',
      ...request.streamKeys.map((key) => this.#sender.key(key)),
      ...request.streamKeys.map(() => '>'),
    );
    return this.#pages('xreadgroup', args);
  }

  async read(request: ReadRequest): Promise<StreamPage[]> {
    const args: Array<string | number> = ['COUNT', request.count];
    if (request.block !== undefined) args.push('BLOCK', request.block);
    args.push('STREAMS', ...request.positions.map(([key]) => this.#sender.key(key)));
    args.push(...request.positions.map(([, afterId]) => afterId));
    return this.#pages('xread', args);
  }

  async range(streamKey: string, from: string, to: string, count?: number): Promise<StreamEntry[]> {
    const limit = count === undefined ? [] : ['COUNT', count];
    return parseEntries(await this.#sender.raw('xrange', [this.#sender.key(streamKey), from, to, ...limit]));
  }

  async scan(cursor: string): Promise<{ cursor: string; streams: string[] }> {
    const match = this.#sender.keyPrefix ? ['MATCH', `${escapeGlob(this.#sender.keyPrefix)}*`] : [];
    const isCluster = await this.#sender.isCluster();
    const [index, position] = isCluster ? masterAndCursor(cursor) : [0, cursor];
    const args = [position, ...match, 'COUNT', SCAN_PAGE, 'TYPE', 'stream'];
    const found = await this.#sender.textOfMaster(index, 'scan', args);
    // The cluster has become smaller.
    if (!found) return { cursor: '0', streams: [] };
    const [next, keys] = found.reply as [string, string[]];
    const streams = keys.map((key) => this.#sender.streamKey(key));
    if (!isCluster) return { cursor: next, streams };
    if (next !== '0') return { cursor: clusterCursor(index, next), streams };
    return { cursor: index + 1 < found.masters ? clusterCursor(index + 1, next) : '0', streams };
  }

  async streamInfo(streamKey: string): Promise<StreamInfo | undefined> {
    try {
      return parseStreamInfo(await this.#sender.text('xinfo', ['STREAM', this.#sender.key(streamKey)]));
    } catch (error) {
      if (classifyRedisError(error) === 'stream-gone') return undefined;
      throw error;
    }
  }

  async isStream(streamKey: string): Promise<boolean> {
    return (await this.#sender.text('type', [this.#sender.key(streamKey)])) === 'stream';
  }

  async #pages(name: 'xread' | 'xreadgroup', args: Array<string | number>): Promise<StreamPage[]> {
    const streamKey = (key: string): string => this.#sender.streamKey(key);
    if (!(await this.#sender.canDecode())) return parsePages(await this.#sender.raw(name, args), streamKey);
    return this.#sender.decoded(new DecodedCommand(name, args, new PageDecoder(streamKey, this.#lastLayout)));
  }
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
