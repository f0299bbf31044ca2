import { afterEach, expect, it } from '@jest/globals';

import { ChaosCluster } from '../support/chaos/chaos-cluster.js';
import type { ChaosConsumerInput, ChaosHandling } from '../support/chaos/chaos-consumer.js';
import { ChaosLedger, outOfOrder, storedAgain } from '../support/chaos/chaos-ledger.js';
import type { StoredMessage } from '../support/chaos/chaos-ledger.js';
import type { ChaosProducerInput, ChaosProducerLine } from '../support/chaos/chaos-producer.js';
import { useChildProgram } from '../support/child-program.js';
import type { ChildProgram } from '../support/child-program.js';
import { SeededRandom } from '../support/fuzz/seeded-random.js';
import { storedEntries } from '../support/group-work.js';
import { useTally } from '../support/tally.js';
import { until } from '../support/until.js';

/** The short form; `npm run test:chaos` runs ten rounds. */
const ROUNDS = Number(process.env['CHAOS_ROUNDS'] ?? 1);
/** Repeats the order of the faults and their victims. */
const SEED = Number(process.env['CHAOS_SEED'] ?? Math.floor(Math.random() * 2 ** 32));
const STREAMS = 6;
/** The most milliseconds of one round and of the beginning and the end, on a slow machine. */
const LIMIT = 300_000;
const FLOW_LIMIT = 60_000;

const tally = useTally();
const startProducer = useChildProgram<ChaosProducerInput, ChaosProducerLine>('./chaos/chaos-producer.ts');
const startConsumer = useChildProgram<ChaosConsumerInput, ChaosHandling>('./chaos/chaos-consumer.ts');
let cluster: ChaosCluster | undefined;

// Registered last, so it runs first: the processes are killed afterwards, and do not mind.
afterEach(async () => {
  await cluster?.stop();
  cluster = undefined;
});

/** Two producers; a group of two consumers, of which one is killed now and then; and a group with a single consumer, in order. */
class Chaos {
  readonly ledger = new ChaosLedger();
  readonly #cluster: ChaosCluster;
  readonly #producers: ChildProgram[] = [];
  #victim: ChildProgram | undefined;
  #lives = 0;

  constructor(start: ChaosCluster) {
    this.#cluster = start;
  }

  async start(): Promise<void> {
    const { connection, streams } = this.#cluster;
    await this.#consume('lasting', 'shared', 'load-balanced');
    await this.replaceConsumer();
    await this.#consume('single', 'in-order', 'resumable');
    for (const delivery of ['exactly-once', 'at-least-once'] as const) {
      const input = { connection, name: delivery, streams, delivery, keys: 4 * STREAMS, interval: 100 };
      this.#producers.push(await startProducer(input, (line) => this.ledger.produced(line)));
    }
  }

  /** Kills one of the two consumers of the group, and starts another one in its place. */
  async replaceConsumer(): Promise<void> {
    this.#victim?.process.kill('SIGKILL');
    await this.#victim?.ended;
    this.#lives += 1;
    this.#victim = await this.#consume(`life-${this.#lives}`, 'shared', 'load-balanced');
  }

  /** Waits until each stream has messages that were sent from now on and that both groups have handled. */
  async flow(): Promise<void> {
    const { streams } = this.#cluster;
    const from = Object.fromEntries(GROUPS.map((group) => [group, this.ledger.handlings(group).length]));
    const silent = (group: string): string[] => {
      const fresh = new Set(
        this.ledger
          .handlings(group)
          .slice(from[group])
          .map(({ stream }) => stream),
      );
      return streams.filter((stream) => !fresh.has(stream));
    };
    const isFlowing = (): boolean => GROUPS.every((group) => silent(group).length === 0);
    await until('messages of all streams are handled', isFlowing, FLOW_LIMIT).catch((error: Error) => {
      const which = GROUPS.map((group) => `${group}: ${silent(group).join(', ') || 'none'}`).join('; ');
      throw new Error(`${error.message}; without a message (${which})`, { cause: error });
    });
  }

  async fault(name: string, happen: () => Promise<void>): Promise<void> {
    const fault = { name, begin: Date.now(), end: Infinity };
    this.ledger.faults.push(fault);
    await happen();
    await this.flow();
    fault.end = Date.now();
  }

  /** Ends the producers, and waits until the groups have handled everything that was confirmed. */
  async settle(): Promise<void> {
    for (const { process } of this.#producers) process.stdin?.write('end\n');
    await until('each send has an outcome', () => this.ledger.open().length === 0, FLOW_LIMIT);
    const isDone = (): boolean => GROUPS.every((group) => this.ledger.lost(group).length === 0);
    // What is not handled then is lost, and the test says which messages.
    await until('everything is handled', isDone, FLOW_LIMIT).catch(() => undefined);
  }

  async stored(): Promise<StoredMessage[]> {
    const pages = this.#cluster.streams.map(async (stream) =>
      (await storedEntries(await this.#cluster.adminOf(stream), stream)).map((entry) => ({ stream, ...entry })),
    );
    return (await Promise.all(pages)).flat();
  }

  #consume(name: string, group: string, mode: ChaosConsumerInput['mode']): Promise<ChildProgram> {
    const { connection, streams } = this.#cluster;
    return startConsumer({ connection, name, group, streams, mode }, (line) => this.ledger.handled(group, line));
  }
}

const GROUPS = ['shared', 'in-order'];

function shuffled<T>(random: SeededRandom, items: readonly T[]): T[] {
  const rest = [...items];
  return items.map(() => rest.splice(random.integer(0, rest.length - 1), 1)[0] as T);
}

it(
  'nothing that was confirmed is lost, and each key keeps its order, while the nodes of a cluster change places, are killed, suspended, added and removed',
  async () => {
    process.stderr.write(`cluster-chaos: CHAOS_SEED=${SEED} CHAOS_ROUNDS=${ROUNDS}\n`);
    const random = new SeededRandom(SEED);
    const nodes = (cluster = await ChaosCluster.start(random.fork('cluster'), STREAMS, () => chaos.flow()));
    const chaos: Chaos = new Chaos(nodes);
    await chaos.start();
    await chaos.flow();
    const faults: ReadonlyArray<readonly [string, () => Promise<void>]> = [
      ['slots are moved, back and forth, twice', () => nodes.reshard()],
      ['a node is added and removed', () => nodes.addAndRemoveNode()],
      ['CLUSTER FAILOVER', () => nodes.failover()],
      ['CLUSTER FAILOVER TAKEOVER', () => nodes.takeover()],
      ['a master is killed', () => nodes.killMaster()],
      ['a master is suspended', () => nodes.suspendMaster()],
      ['a consumer is killed', () => chaos.replaceConsumer()],
      ['all nodes are killed and restarted', () => nodes.allDownAndUp()],
    ];
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const [name, happen] of shuffled(random, faults)) await chaos.fault(name, happen);
    }
    await chaos.settle();

    const { ledger } = chaos;
    const stored = await chaos.stored();
    const [shared = 0, inOrder = 0] = GROUPS.map((group) => ledger.repeated(group));
    const lost = GROUPS.flatMap((group) => ledger.lost(group).map((payload) => `${group}: ${payload}`));
    const again = storedAgain(stored);
    const rows: Record<string, unknown> = {
      sent: ledger.sent,
      confirmed: ledger.confirmed,
      failed: JSON.stringify(ledger.failures()),
      stored: stored.length,
      'stored again': again.length,
      'handled (shared)': ledger.handlings('shared').length,
      'handled again (shared)': shared,
      'handled (in order)': ledger.handlings('in-order').length,
      'handled again (in order)': inOrder,
      lost: lost.length,
    };
    const times = ledger.faults.map(({ name, begin, end }) => `${String(end - begin).padStart(12)}  ms: ${name}`);
    const counts = Object.entries(rows).map(([name, value]) => `${String(value).padStart(12)}  ${name}`);
    process.stderr.write(`cluster-chaos, seed ${SEED}:\n${[...times, ...counts].join('\n')}\n`);
    tally({
      faults: ledger.faults.length,
      sends: ledger.confirmed,
      handled: ledger.confirmed - lost.length,
      duplicates: shared + inOrder,
      lost: lost.length,
    });
    expect(lost).toEqual([]);
    expect(ledger.missing(stored)).toEqual([]);
    expect(again.filter((payload) => payload.startsWith('exactly-once'))).toEqual([]);
    expect(outOfOrder(stored)).toEqual([]);
    expect(outOfOrder(ledger.handlings('in-order'))).toEqual([]);
    expect(GROUPS.flatMap((group) => ledger.unexplained(group))).toEqual([]);
  },
  ROUNDS * LIMIT + LIMIT,
);
