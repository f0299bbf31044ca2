import { afterEach } from '@jest/globals';

import type { StreamerOptions } from '../../lib/index.js';
import { RedisStreamer } from '../../lib/index.js';
import type { CommandBench } from './command-bench.js';

/** Creates streamers over the way of a command bench, and disconnects them after each test. */
export class EngineBench {
  readonly #bench: CommandBench;
  readonly #streamers: RedisStreamer[] = [];

  constructor(bench: CommandBench) {
    this.#bench = bench;
    afterEach(async () => {
      await Promise.all(this.#streamers.splice(0).map((streamer) => streamer.disconnect()));
    });
  }

  async connect(options: StreamerOptions = {}): Promise<RedisStreamer> {
    const { connection, logger, way } = this.#bench;
    // Where a blocked read cannot be ended early, the end of a consumer takes as long as one.
    const blockTimeout = way.may.unblock ? 1_000 : 100;
    const streamer = await RedisStreamer.connect(connection, { blockTimeout, timeout: 10_000, logger, ...options });
    this.#streamers.push(streamer);
    return streamer;
  }
}
