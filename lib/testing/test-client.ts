import type { ReadPacket, WritePacket } from '@nestjs/microservices';
import { defer, mergeAll } from 'rxjs';
import type { Observable } from 'rxjs';

import { StreamManager } from '../engine/admin/stream-manager.js';
import type { Receipt } from '../engine/messages/receipt.js';
import type { HealthOptions, StreamerHealth } from '../engine/health.js';
import { DEFAULTS } from '../engine/options/options.js';
import { RedisStreamer } from '../engine/streamer.js';
import { ClosedError, InvalidOptionError, NoHandlerError, UnsupportedOperationError } from '../errors.js';
import { ClientRedisStreams, checkEvent } from '../nest/client/redis-streams.client.js';
import { PacketCodec } from '../nest/packet-codec.js';
import { RedisStreamsRecord } from '../nest/redis-streams.record.js';
import { refuseForRequests } from '../nest/requests/request-sender.js';
import { streamOfPattern } from '../nest/stream-pattern.js';
import type { StreamCommands } from '../redis/commands/stream-commands.js';
import { TestServerRedisStreams } from './test-server.js';
import { TestStreams } from './test-streams.js';
import { VirtualClock } from './virtual-clock.js';

/** An event or request that the application sent. */
export interface SentMessage {
  /** Whether it was sent by `emit()` or by `send()`. */
  readonly kind: 'event' | 'request';
  /** The pattern, as the application gave it. */
  readonly pattern: unknown;
  /** The data, before it was serialized. */
  readonly data: unknown;
  /** Headers of its record; empty without one. */
  readonly headers: Readonly<Record<string, string>>;
  /** Key of its record. */
  readonly key: string | undefined;
  /** Deduplication id of its record. */
  readonly deduplicationId: string | undefined;
  /** In milliseconds. */
  readonly delay: number | undefined;
  /** Time of its record until which it waits. */
  readonly deliverAt: Date | undefined;
  /** Time of its record at which it expires. */
  readonly expiresAt: Date | undefined;
  /** In milliseconds. */
  readonly timeout: number | undefined;
}

/**
 * Replaces `ClientRedisStreams` in the tests of an application: it records each message that is sent, refuses what the real one
 * refuses, and makes no connection. Given a {@link TestServerRedisStreams}, it has requests answered by the handlers of that server, and
 * the events that it sends wait there for {@link TestServerRedisStreams.advanceTime}.
 *
 * `unwrap().createManager()` lists and cancels delayed messages.
 * @example
 * ```ts
 * const client = new TestClientRedisStreams();
 * const module = await Test.createTestingModule({
 *   controllers: [CheckoutController],
 *   providers: [{ provide: ClientRedisStreams, useValue: client }],
 * }).compile();
 * await module.get(CheckoutController).order({ item: 'tea' });
 * expect(client.sent).toMatchObject([{ pattern: 'orders', data: { item: 'tea' } }]);
 * ```
 */
export class TestClientRedisStreams extends ClientRedisStreams {
  /** Everything that was sent, in order. */
  readonly sent: SentMessage[] = [];
  readonly #server: TestServerRedisStreams | undefined;
  readonly #streams: TestStreams;

  /** @param server whose handlers answer requests and receive events; without one, messages are recorded only @throws InvalidOptionError */
  constructor(server?: TestServerRedisStreams) {
    super();
    if (server !== undefined && !(server instanceof TestServerRedisStreams)) {
      throw InvalidOptionError.withoutValue('server', 'must be a TestServerRedisStreams; a test client has no options');
    }
    this.#server = server;
    this.#streams = server ? TestServerRedisStreams.streamsOf(server) : this.#createStreams();
  }

  /** Records it at once, unless its schema or the serializer is asynchronous. @throws ClosedError, InvalidOptionError, PayloadInvalidError */
  protected override dispatchEvent<T = Receipt>(packet: ReadPacket): Promise<T> {
    this.#requireOpen();
    checkEvent(packet);
    const route = this.#routeOf(packet);
    const stored = this.#streams.send(route, packet);
    const note = (receipt: Receipt): T => {
      this.#note('event', packet);
      return receipt as T;
    };
    return stored instanceof Promise ? stored.then(note) : Promise.resolve(note(stored));
  }

  /**
   * Has the server answer. The callback gets ClosedError after `close()`, InvalidOptionError or PayloadInvalidError for data that cannot
   * be sent, NoHandlerError without a server or any handler.
   */
  protected override publish(packet: ReadPacket, callback: (packet: WritePacket) => void): () => void {
    const replies = defer(() => this.#answer(packet)).pipe(mergeAll());
    const subscription = replies.subscribe({
      next: (response) => callback({ response }),
      error: (err: unknown) => callback({ err, isDisposed: true }),
      complete: () => callback({ isDisposed: true }),
    });
    return () => subscription.unsubscribe();
  }

  async #answer(packet: ReadPacket): Promise<Observable<unknown>> {
    this.#requireOpen();
    const { data } = packet;
    refuseForRequests(data instanceof RedisStreamsRecord ? data : undefined);
    const route = this.#routeOf(packet);
    // What cannot be encoded is not sent. The server encodes it once more.
    await this.#streams.encode(packet);
    this.#note('request', packet);
    if (!this.#server) {
      throw new NoHandlerError(route, `This test client has no server that could answer '${route}'`);
    }
    return TestServerRedisStreams.repliesOf(this.#server, packet.pattern, data);
  }

  #requireOpen(): void {
    if (this.unwrap().stats().isClosed) throw new ClosedError('The client', 'connect() opens it again');
  }

  protected override createStreamer(): RedisStreamer {
    return new OfflineStreamer(() => this.#streams);
  }

  #createStreams(): TestStreams {
    const codec = new PacketCodec(
      () => this.serializer,
      () => this.deserializer,
    );
    return new TestStreams({ clock: new VirtualClock(), codec, names: new Map() });
  }

  #routeOf({ pattern }: ReadPacket): string {
    return streamOfPattern(pattern, 'send', (text) => this.normalizePattern(text));
  }

  #note(kind: SentMessage['kind'], { pattern, data }: ReadPacket): void {
    const record = data instanceof RedisStreamsRecord ? data : undefined;
    this.sent.push({
      kind,
      pattern,
      data: record ? record.data : data,
      headers: record?.headers ?? {},
      key: record?.key,
      deduplicationId: record?.deduplication?.id,
      delay: record?.delay,
      deliverAt: record?.deliverAt,
      expiresAt: record?.expiresAt,
      timeout: record?.timeout,
    });
  }
}

/** The engine of a test client, as far as an application asks for it. It never connects. */
class OfflineStreamer extends RedisStreamer {
  readonly #streams: () => TestStreams;

  constructor(streams: () => TestStreams) {
    super();
    this.#streams = streams;
  }

  override async connect(): Promise<void> {
    // No connection is needed.
  }

  override async health(options?: HealthOptions): Promise<StreamerHealth> {
    const health = await super.health(options);
    return health.isClosed ? health : { ...health, isHealthy: true, status: 'connected' };
  }

  override async createManager(): Promise<StreamManager> {
    return StreamManager.create(commandsOf(this.#streams()), DEFAULTS.streamer);
  }
}

/** Commands on what the test has sent; all others are refused. */
function commandsOf(streams: TestStreams): StreamCommands {
  const known: Partial<StreamCommands> = { delayed: streams as never };
  return new Proxy(known, {
    get: (facets, name) => {
      if (name in facets) return facets[name as keyof StreamCommands];
      throw new UnsupportedOperationError(
        'A test client',
        'has delayed() and cancelDelayed() of a manager, and no more',
      );
    },
  }) as StreamCommands;
}
