import type { PendingCommands } from '../../../redis/commands/stream-commands.js';
import type { Partition } from '../partition.js';

export interface LeaseRenewalOptions {
  readonly pending: Pick<PendingCommands, 'keepAlive'>;
  readonly group: string;
  readonly consumer: string;
  /** The idle time after which others claim an entry; entries are kept alive three times as often. */
  readonly claimIdle: number;
  readonly streams: () => readonly Partition[];
  /** Entries that wait to be handed out again for longer than the claim idle; other waiting ones are not kept alive. */
  readonly waiting?: (stream: Partition) => readonly string[];
  /** These entries have been claimed by somebody else, or are no longer pending. */
  readonly onLost: (stream: Partition, ids: ReadonlySet<string>) => void;
  readonly onError: (error: unknown) => void;
}

const IDS_PER_COMMAND = 500;

/** Keeps buffered and running entries from being claimed by others for as long as this process lives. */
export class LeaseRenewal {
  readonly #options: LeaseRenewalOptions;
  #timer: NodeJS.Timeout | undefined;
  #isRenewing = false;

  constructor(options: LeaseRenewalOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer ??= setInterval(() => {
      if (!this.#isRenewing) void this.#renewAll();
    }, this.#options.claimIdle / 3);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  async #renewAll(): Promise<void> {
    this.#isRenewing = true;
    for (const stream of this.#options.streams()) {
      try {
        await this.#renewStream(stream);
      } catch (error) {
        // A stream that was deleted or overwritten must not cost the others their entries.
        this.#options.onError(error);
      }
    }
    this.#isRenewing = false;
  }

  async #renewStream(stream: Partition): Promise<void> {
    const ids: string[] = [...(this.#options.waiting?.(stream) ?? [])];
    for (const [id, state] of stream.held) if (state !== 'waiting' && state !== 'skipped') ids.push(id);
    for (let start = 0; start < ids.length; start += IDS_PER_COMMAND) {
      await this.#renew(stream, ids.slice(start, start + IDS_PER_COMMAND));
    }
  }

  async #renew(stream: Partition, ids: readonly string[]): Promise<void> {
    const { pending, group, consumer } = this.#options;
    const kept = new Set(await pending.keepAlive(stream.key, group, consumer, ids));
    if (kept.size === ids.length) return;
    this.#options.onLost(stream, new Set(ids.filter((id) => !kept.has(id))));
  }
}
