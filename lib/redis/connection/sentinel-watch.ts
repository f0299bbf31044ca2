import type { Redis, SentinelAddress } from 'ioredis';

import { ConnectionError } from '../../errors.js';
import { withResolvers } from '../../shared/deferred.js';
import { errorText } from '../../shared/error-text.js';
import { replyWord } from '../commands/redis-error.js';
import { ReplyError } from '../wire/resp-reader.js';
import { connectFailure, decisiveReason } from './connect-failure.js';
import { publicCause } from './ioredis-errors.js';
import { keepErrorsCaught, sentinelConnectorOf } from './take-over.js';

/**
 * Follows the clients to Sentinels that ioredis makes inside one client: some ask for the master, one Sentinel after the other,
 * and some wait for failovers. ioredis does not tell why a Sentinel could not be asked, waits without a limit for one that does
 * not answer, prints errors of the clients that wait for failovers to the console, and ends these only in `disconnect()`: those of
 * a client whose connection is lost would stay connected for ever, and keep the process alive.
 *
 * It keeps the reasons of one search for the master, ends one question that takes too long, and ends the clients that wait for
 * failovers when the client itself has ended.
 */
export class SentinelWatch {
  /** For the answer of one Sentinel, in milliseconds. */
  readonly #answerLimit: number;
  readonly #name: string | undefined;
  #reasons: Error[] = [];
  /** For a failover. */
  readonly #waiting = new Set<Redis>();

  /**
   * @param limit of the whole attempt to connect, in milliseconds: Sentinels that do not answer leave the others, and the
   * master, their share of it
   */
  constructor(client: Redis, limit: number) {
    const { sentinels, name } = client.options;
    this.#name = name ?? undefined;
    const connector = sentinelConnectorOf(client);
    this.#answerLimit = limit / ((sentinels?.length ?? 0) + 1);
    if (!connector) return;
    const connect = connector.connectToSentinel.bind(connector);
    const ask = connector.resolve.bind(connector);
    // A client that was ready before has them already.
    for (const waiting of connector.failoverDetector?.sentinels ?? []) this.#waiting.add(waiting.client);
    const onWaiting = (sentinel: Redis): unknown => this.#waiting.add(sentinel);
    let onClient: (sentinel: Redis) => unknown = onWaiting;
    connector.connectToSentinel = (endpoint, options) => {
      const sentinel = connect(endpoint, options);
      // Those that wait for a failover have no listener of ioredis.
      sentinel.on('error', () => undefined);
      keepErrorsCaught(sentinel);
      onClient(sentinel);
      return sentinel;
    };
    client.once('end', () => {
      // Ended twice, a client keeps the process alive for its disconnectTimeout.
      for (const waiting of this.#waiting) if (waiting.status !== 'end') waiting.disconnect();
    });
    connector.resolve = async (endpoint) => {
      const { promise: tooLate, reject } = withResolvers<never>();
      let sentinel: Redis | undefined;
      let reported: Error | undefined;
      onClient = (client) => {
        sentinel = client.on('error', (error: Error) => (reported ??= error));
      };
      const asking = ask(endpoint);
      onClient = onWaiting;
      const timer = setTimeout(() => {
        reject(new Error(`it does not answer within ${Math.round(this.#answerLimit)} ms`));
        sentinel?.disconnect();
      }, this.#answerLimit);
      try {
        const master = await Promise.race([asking, tooLate]);
        if (master) this.#reasons = [];
        else this.#note(endpoint, new ReplyError('ERR No such master with that name'));
        return master;
      } catch (error) {
        // What fails a command follows from the error of its connection.
        this.#note(endpoint, reported ?? error);
        throw error;
      } finally {
        clearTimeout(timer);
      }
    };
  }

  /** Why none of the Sentinels named a master; undefined when one did, or when there are none. */
  get failure(): Error | undefined {
    return decisiveReason(this.#reasons);
  }

  #note({ host = 'localhost', port = 26_379 }: Partial<SentinelAddress>, error: unknown): void {
    const cause = publicCause(error);
    const peer = `Sentinel ${host}:${port}`;
    const failure = connectFailure(peer, cause);
    const isReply = failure.retryable && replyWord(cause) !== undefined;
    const message = `${peer} does not name the master '${this.#name}': ${errorText(cause)}`;
    this.#reasons.push(isReply ? new ConnectionError(message, cause) : failure);
  }
}
