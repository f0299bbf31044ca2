import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';

import { RedisStreamer } from '../../../lib/index.js';
import type { GroupDetails } from '../../../lib/index.js';
import { acquireRedis } from '../../../test/support/redis-server.js';
import type { RedisHandle } from '../../../test/support/redis-server.js';
import { Service } from '../../driver/service.js';
import type { ServiceEvent } from '../../driver/service.js';
import type { Screen } from '../../driver/screen.js';

const STREAM = 'orders';

/** Redis and the services that use it. {@link close} removes every process and every key, also after a failure. */
export class ShopEnvironment {
  readonly redis: RedisHandle;
  readonly #screen: Screen;
  readonly #onEvent: (service: string, event: ServiceEvent) => void;
  readonly #keyPrefix = `shop-${randomBytes(4).toString('hex')}:`;
  readonly #services = new Map<string, Service>();
  #streamer: RedisStreamer | undefined;

  private constructor(redis: RedisHandle, screen: Screen, onEvent: (service: string, event: ServiceEvent) => void) {
    this.redis = redis;
    this.#screen = screen;
    this.#onEvent = onEvent;
  }

  static async open(screen: Screen, onEvent: (service: string, event: ServiceEvent) => void): Promise<ShopEnvironment> {
    return new ShopEnvironment(await acquireRedis(), screen, onEvent);
  }

  /** Starts a service, or restarts it with the same name. The program is a file of this sample without its extension. */
  start(name: string, program: string): Service {
    const service = new Service({
      name,
      program: new URL(`../${program}.js`, import.meta.url),
      env: { REDIS_URL: this.redis.url, SHOP_KEY_PREFIX: this.#keyPrefix },
      onEvent: (event) => this.#onEvent(name, event),
      onText: (line) => this.#screen.say(`${name}: ${line}`),
    });
    this.#services.set(name, service);
    return service;
  }

  service(name: string): Service {
    const service = this.#services.get(name);
    if (!service) throw new Error(`${name} was not started`);
    return service;
  }

  /** The consumer groups of the orders, as the server sees them. */
  async groups(): Promise<GroupDetails[]> {
    const { url } = this.redis;
    this.#streamer ??= await RedisStreamer.connect(url, { keyPrefix: this.#keyPrefix, timeout: 5_000 });
    return (await this.#streamer.createManager()).groups(STREAM);
  }

  /** Entries that are pending in a group for one consumer. */
  async pendingFor(group: string, consumer: string): Promise<number> {
    const info = (await this.groups()).find(({ name }) => name === group);
    return info?.consumers.find(({ name }) => name === consumer)?.pending ?? 0;
  }

  /** Stops all services gracefully; returns the names of those that had to be killed. */
  async stopServices(): Promise<string[]> {
    const services = [...this.#services.values()];
    this.#services.clear();
    const stopped = await Promise.all(services.map((service) => service.stop()));
    return services.filter((_, index) => !stopped[index]).map(({ name }) => name);
  }

  async close(): Promise<void> {
    await this.stopServices();
    await this.#streamer?.disconnect();
    try {
      await this.#removeKeys();
    } finally {
      await this.redis.stop();
    }
  }

  /** The server may have been running before: the sample's key must not remain on it. */
  async #removeKeys(): Promise<void> {
    const redis = new Redis(this.redis.url, { lazyConnect: true, maxRetriesPerRequest: 0, retryStrategy: () => null });
    try {
      await redis.connect();
      await redis.del(this.#keyPrefix + STREAM);
    } catch (error) {
      this.#screen.say(`The key ${this.#keyPrefix}${STREAM} could not be removed: ${String(error)}`);
    } finally {
      redis.disconnect();
    }
  }
}
