import type { CommandArgument, CommandSender } from './command-sender.js';
import { classifyRedisError } from './redis-error.js';
import type {
  GroupReadRequest,
  ReadCommands,
  ReadRequest,
  StreamEntry,
  StreamInfo,
  StreamPage,
} from './stream-commands.js';
import { parseEntries, parsePages, parseStreamInfo } from './stream-replies.js';

const SCAN_PAGE = 500;

/** XREADGROUP, XREAD and what else looks at streams without changing them. */
export class RedisReadCommands implements ReadCommands {
  readonly #sender: CommandSender;

  constructor(sender: CommandSender) {
    this.#sender = sender;
  }

  async readGroup(request: GroupReadRequest): Promise<StreamPage[]> {
    const args: CommandArgument[] = ['GROUP', request.group, request.consumer, 'COUNT', request.count];
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
    const args: CommandArgument[] = ['COUNT', request.count];
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
    const reply = await this.#sender.text('scan', [cursor, ...match, 'COUNT', SCAN_PAGE, 'TYPE', 'stream']);
    const [next, keys] = reply as [string, string[]];
    return { cursor: next, streams: keys.map((key) => this.#sender.streamKey(key)) };
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

  async #pages(name: string, args: readonly CommandArgument[]): Promise<StreamPage[]> {
    return parsePages(await this.#sender.raw(name, args), (key) => this.#sender.streamKey(key));
  }
}

function escapeGlob(text: string): string {
  return text.replace(/[\\*?[\]]/g, '\\$&');
}
