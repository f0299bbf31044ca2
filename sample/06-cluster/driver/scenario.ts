import type { SeededRandom } from '../../../test/support/fuzz/seeded-random.js';
import { until } from '../../../test/support/until.js';
import { SHARDS } from '../shop.js';
import { addressOf } from './fleet.js';
import type { Fleet } from './fleet.js';
import type { Ledger } from './ledger.js';
import type { Watch } from './watch.js';

const CONSUMERS = ['billing-1', 'billing-2', 'billing-3', 'billing-4'];
const REPLACEMENT = 'billing-5';
const PRODUCERS = ['checkout-1', 'checkout-2', 'checkout-3'];
const MOVED = 4;
/** Of each wait, on a busy machine. */
const LIMIT = 60_000;

export interface ScenarioParts {
  readonly fleet: Fleet;
  readonly ledger: Ledger;
  readonly watch: Watch;
  /** Draws which shards are moved, and which processes are killed. */
  readonly random: SeededRandom;
  readonly say: (line: string) => void;
  /** Aborts when the driver is interrupted. */
  readonly signal: AbortSignal;
}

/** What happens to the cluster and to the services while orders are placed and charged. */
export class Scenario {
  readonly #parts: ScenarioParts;
  readonly #consumers = new Set(CONSUMERS);

  constructor(parts: ScenarioParts) {
    this.#parts = parts;
  }

  async run(): Promise<void> {
    await this.#open();
    await this.#reshard();
    await this.#killMaster();
    const gone = await this.#killConsumer();
    await this.#replace(gone);
    await this.#finish();
  }

  async #open(): Promise<void> {
    const { fleet } = this.#parts;
    this.#begin('at the start', `${CONSUMERS.length} consumers and ${PRODUCERS.length} producers start`);
    await Promise.all([...CONSUMERS, ...PRODUCERS].map((name) => fleet.start(name)));
    await this.#spread();
    await this.#flow();
  }

  /** The slots of some shards move to other masters, one after the other. */
  async #reshard(): Promise<void> {
    const { fleet, random, say } = this.#parts;
    this.#begin('while slots were moved', `The slots of ${MOVED} shards are moved`);
    const masters = new Set<Awaited<ReturnType<Fleet['masterOf']>>>();
    for (const shard of SHARD_IDS) masters.add(await fleet.masterOf(shard));
    const rest = [...SHARD_IDS];
    for (let count = 0; count < MOVED; count += 1) {
      const [shard = 0] = rest.splice(random.integer(0, rest.length - 1), 1);
      const source = await fleet.masterOf(shard);
      const target = random.pick([...masters].filter((node) => node !== source));
      await fleet.move(shard, target);
      say(`  shard ${shard} has moved from ${addressOf(source)} to ${addressOf(target)}`);
    }
    await this.#flow();
  }

  /** SIGKILL; its replica takes over. Then it starts again, as the replica of its successor. */
  async #killMaster(): Promise<void> {
    const { fleet, random, say } = this.#parts;
    const shard = random.pick(SHARD_IDS);
    const victim = await fleet.masterOf(shard);
    const name = `master ${addressOf(victim)}`;
    this.#begin(`after ${name} was killed`, `${name} is killed with SIGKILL`);
    const killedAt = performance.now();
    await victim.server.kill();
    await this.#until('its replica has taken over', async () => (await fleet.masterOf(shard)) !== victim);
    say(`  ${addressOf(await fleet.masterOf(shard))} has taken over after ${secondsSince(killedAt)} s`);
    await this.#flow();
    say(`  all shards are handled again after ${secondsSince(killedAt)} s`);
    await victim.server.restart();
    const before = SHARD_IDS.map((id) => this.#parts.ledger.confirmedOf(id));
    await this.#until('orders of all shards are confirmed', () =>
      SHARD_IDS.every((id) => this.#parts.ledger.confirmedOf(id) > (before[id] ?? 0)),
    );
    say(`  ${addressOf(victim)} has restarted as a replica; all is confirmed by two nodes again`);
  }

  /** SIGKILL: its leases end, and the others take its shards. */
  async #killConsumer(): Promise<string> {
    const { fleet, random, say, watch } = this.#parts;
    const victim = random.pick([...this.#consumers]);
    this.#begin(`after ${victim} was killed`, `${victim} is killed with SIGKILL`);
    const killedAt = performance.now();
    await fleet.kill(victim);
    this.#consumers.delete(victim);
    await this.#spread();
    say(`  its shards have other owners after ${secondsSince(killedAt)} s: ${[...watch.shares.values()].join(', ')}`);
    await this.#flow();
    return victim;
  }

  async #replace(gone: string): Promise<void> {
    const { fleet, say } = this.#parts;
    this.#begin(`after ${REPLACEMENT} joined`, `${REPLACEMENT} starts in place of ${gone}`);
    const startedAt = performance.now();
    await fleet.start(REPLACEMENT);
    this.#consumers.add(REPLACEMENT);
    await this.#spread();
    say(`  it has its share after ${secondsSince(startedAt)} s, handed over by the others`);
    await this.#flow();
  }

  /** What is still not handled past the limit is in the ledger. */
  async #finish(): Promise<void> {
    const { fleet, ledger, say } = this.#parts;
    this.#begin('at the end', 'The producers stop');
    await fleet.stop('checkout');
    await this.#until('all orders are handled', () => ledger.lost.length === 0).catch((error: unknown) => {
      this.#parts.signal.throwIfAborted();
      say(String(error));
    });
    await fleet.stop('billing');
  }

  #begin(phase: string, line: string): void {
    this.#parts.ledger.begin(phase);
    this.#parts.say(line);
  }

  /** Waits until the instances that run own all shards, the same number each or one more. */
  async #spread(): Promise<void> {
    const least = Math.floor(SHARDS / this.#consumers.size);
    await this.#until('the shards are spread evenly', () => {
      const shares = [...this.#consumers].map((name) => this.#parts.watch.shares.get(name) ?? 0);
      return shares.reduce((total, share) => total + share, 0) === SHARDS && Math.min(...shares) === least;
    });
  }

  /** Waits until orders of each shard have been handled from now on. */
  async #flow(): Promise<void> {
    const { ledger } = this.#parts;
    const before = SHARD_IDS.map((shard) => ledger.handledOf(shard) + ledger.lagOf(shard));
    await this.#until('orders of all shards are handled', () =>
      SHARD_IDS.every((shard) => ledger.handledOf(shard) > (before[shard] ?? 0)),
    );
  }

  async #until(description: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    const { signal } = this.#parts;
    const holds = (): boolean | Promise<boolean> => {
      signal.throwIfAborted();
      return condition();
    };
    await until(description, holds, LIMIT);
  }
}

const SHARD_IDS: readonly number[] = Array.from({ length: SHARDS }, (_, shard) => shard);

function secondsSince(time: number): string {
  return ((performance.now() - time) / 1_000).toFixed(1);
}
