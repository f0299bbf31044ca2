import { Service } from '../../driver/service.js';
import type { ServiceEvent } from '../../driver/service.js';
import type { Databases } from './databases.js';

/** The program of each process. */
const PROGRAMS = { orders: 'orders', 'relay-1': 'relay', 'relay-2': 'relay', bookings: 'bookings' } as const;
export type ProcessName = keyof typeof PROGRAMS;
const NAMES = Object.keys(PROGRAMS) as ProcessName[];

export interface ProcessesOptions {
  /** A file in the folder of the compiled programs. */
  readonly base: string | URL;
  readonly redisUrl: string;
  readonly keyPrefix: string;
  readonly databases: Databases;
  /** Called with each warning and error that a process logs. */
  readonly onText: (line: string) => void;
}

/** The four processes of the sample. */
export class Processes {
  readonly #options: ProcessesOptions;
  readonly #running = new Map<ProcessName, Service>();

  constructor(options: ProcessesOptions) {
    this.#options = options;
  }

  /** The orders service first: it creates the table that the relays read. */
  async start(): Promise<void> {
    await this.#start('orders').ready();
    await Promise.all(NAMES.filter((name) => name !== 'orders').map((name) => this.#start(name).ready()));
  }

  /** Ends a process in the middle of its work, with SIGKILL, and starts it again; resolves before it is {@link ready}. */
  async kill(name: ProcessName): Promise<void> {
    await this.#service(name).kill();
    this.#start(name);
  }

  ready(name: ProcessName): Promise<ServiceEvent> {
    return this.#service(name).ready();
  }

  /** Where orders are placed, once the service is ready. */
  async url(): Promise<string> {
    const { port } = await this.ready('orders');
    return `http://127.0.0.1:${String(port)}/orders`;
  }

  async stop(): Promise<void> {
    const services = [...this.#running.values()];
    this.#running.clear();
    await Promise.all(services.map((service) => service.stop()));
  }

  #service(name: ProcessName): Service {
    const service = this.#running.get(name);
    if (!service) throw new Error(`${name} was not started`);
    return service;
  }

  #start(name: ProcessName): Service {
    const { base, redisUrl, keyPrefix, databases, onText } = this.#options;
    const service = new Service({
      name,
      program: new URL(`./${PROGRAMS[name]}.js`, base),
      env: {
        REDIS_URL: redisUrl,
        KEY_PREFIX: keyPrefix,
        DATABASE_URL: name === 'bookings' ? databases.bookings : databases.orders,
      },
      onEvent: () => undefined,
      onText: (line) => onText(`${name}: ${line}`),
    });
    this.#running.set(name, service);
    return service;
  }
}
