import { setTimeout as pause } from 'node:timers/promises';

import { until } from '../../../test/support/until.js';
import { report } from './report.js';
import type { Screen } from '../../driver/screen.js';
import type { ShopEnvironment } from './environment.js';
import type { Tallies } from './tally.js';
import type { Timeline } from './timeline.js';
import { Traffic } from './traffic.js';

const SECONDS = 10;
const ORDERS_PER_SECOND = 300;
/** Longest time in which the services handle the remaining orders after the last one was placed, in milliseconds. */
const DRAIN_LIMIT = 30_000;
const GROUPS = ['orders-service', 'payments-service'];

/** The program of each process; two of them are instances of one service. */
const PROGRAMS = {
  gateway: 'gateway',
  dashboard: 'dashboard',
  'orders-1': 'orders',
  'orders-2': 'orders',
  payments: 'payments',
} as const;
type ServiceName = keyof typeof PROGRAMS;

/** Runs the shop: orders are placed, one process is killed and restarted, and no order may be lost. */
export class ShopScenario {
  readonly #environment: ShopEnvironment;
  readonly #screen: Screen;
  readonly #tallies: Tallies;
  readonly #signal: AbortSignal;
  readonly #interrupted: Promise<never>;

  constructor(environment: ShopEnvironment, screen: Screen, tallies: Tallies, signal: AbortSignal) {
    this.#environment = environment;
    this.#screen = screen;
    this.#tallies = tallies;
    this.#signal = signal;
    this.#interrupted = new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error));
    });
    this.#interrupted.catch(() => undefined);
  }

  /** Ten seconds of traffic with a crash in the middle, then the table. */
  async run(timeline: Timeline): Promise<number> {
    const { url } = await this.#open();
    const traffic = new Traffic({ url, seconds: SECONDS, rate: ORDERS_PER_SECOND, signal: this.#signal });
    this.#screen.say(`${ORDERS_PER_SECOND} orders a second to POST ${url} for ${SECONDS} s`);
    this.#screen.showStatus(() => this.#status(traffic));
    await Promise.all([traffic.run(), this.#crashHalfWay(timeline)]);
    await this.#drain(traffic);
    this.#screen.hideStatus();
    const isClean = await this.#closeServices();
    return this.#conclude(traffic, isClean, timeline);
  }

  /** Keeps the shop open until it is interrupted. */
  async serve(): Promise<number> {
    const { url, feed } = await this.#open();
    this.#screen.say(`
Place an order:       curl -X POST ${url} -H 'content-type: application/json' -d '{"item":"tea","quantity":2}'
Watch the dashboard:  curl -N ${feed}
Crash a service:      kill -9 ${this.#environment.service('orders-2').pid}
Close the shop:       Ctrl-C

Each line below is one order, handled by one service.
`);
    const names = Object.keys(PROGRAMS) as ServiceName[];
    try {
      await Promise.all(names.map((name) => this.#restartWhenItEnds(name)));
    } catch (error) {
      if (!this.#signal.aborted) throw error;
    }
    return 0;
  }

  async #open(): Promise<{ url: string; feed: string }> {
    const [gateway, dashboard] = await Promise.all(
      // The dashboard must be ready before the first order: it reads only new messages.
      (Object.keys(PROGRAMS) as ServiceName[]).map((name) => this.#start(name)),
    );
    return {
      url: `http://127.0.0.1:${String(gateway?.['port'])}/orders`,
      feed: `http://127.0.0.1:${String(dashboard?.['port'])}/feed`,
    };
  }

  #start(name: ServiceName): Promise<{ readonly [detail: string]: unknown }> {
    return Promise.race([this.#environment.start(name, PROGRAMS[name]).ready(), this.#interrupted]);
  }

  async #restartWhenItEnds(name: ServiceName): Promise<void> {
    for (;;) {
      const how = await Promise.race([this.#environment.service(name).ended, this.#interrupted]);
      const restart = this.#start(name);
      this.#screen.say(`${name} ended with ${how} and is restarted as process ${this.#environment.service(name).pid}`);
      await restart;
    }
  }

  async #crashHalfWay(timeline: Timeline): Promise<void> {
    await pause((SECONDS / 2) * 1_000, undefined, { signal: this.#signal });
    timeline.mark('kill -9 orders-2');
    await this.#environment.service('orders-2').kill();
    const pending = await this.#environment.pendingFor('orders-service', 'orders-2');
    this.#screen.say(`orders-2 was killed with SIGKILL; ${pending} orders are pending for it`);
    await this.#start('orders-2');
    timeline.mark('orders-2 is back');
    this.#screen.say('orders-2 has restarted with the same consumer name and handles these first');
  }

  /** Orders that are not handled within the limit appear in the table. */
  async #drain({ accepted }: Traffic): Promise<void> {
    const isDone = async (): Promise<boolean> => {
      this.#signal.throwIfAborted();
      if (['orders', 'payments', 'dashboard'].some((name) => this.#tallies.of(name).missing(accepted) > 0))
        return false;
      return (await this.#environment.groups()).every(({ pending }) => pending === 0);
    };
    try {
      await until('every order is handled and acknowledged', isDone, DRAIN_LIMIT);
    } catch (error) {
      this.#signal.throwIfAborted();
      this.#screen.say(String(error));
    }
  }

  async #closeServices(): Promise<boolean> {
    const killed = await this.#environment.stopServices();
    for (const name of killed) this.#screen.say(`${name} did not stop on SIGTERM and was killed`);
    return killed.length === 0;
  }

  async #conclude(traffic: Traffic, isClean: boolean, timeline: Timeline): Promise<number> {
    const groups = (await this.#environment.groups()).filter(({ name }) => GROUPS.includes(name));
    const { table, lost, pending } = report(traffic, this.#tallies, groups);
    const sent = traffic.accepted.size;
    this.#screen.say(`\n${table}\n`);
    if (traffic.refused > 0) this.#screen.say(`${traffic.refused} requests failed; the last: ${traffic.lastRefusal}`);
    timeline.summary = `${sent} sent, ${lost} lost, ${pending} pending`;
    this.#screen.say(timeline.summary);
    return isClean && sent > 0 && traffic.refused === 0 && lost === 0 && pending === 0 ? 0 : 1;
  }

  #status({ accepted }: Traffic): string {
    const count = (name: string): string => `${name} ${this.#tallies.of(name).handled}`;
    return `sent ${accepted.size} of ${SECONDS * ORDERS_PER_SECOND}  ${['orders-1', 'orders-2', 'payments', 'dashboard'].map(count).join('  ')}`;
  }
}
