import { SeededRandom } from '../../test/support/fuzz/seeded-random.js';
import { Screen } from '../driver/screen.js';
import { Fleet } from './driver/fleet.js';
import { Ledger } from './driver/ledger.js';
import type { Handling } from './driver/ledger.js';
import { Scenario } from './driver/scenario.js';
import { ledgerTable, shardTable, statusLine } from './driver/tables.js';
import { Watch } from './driver/watch.js';

/** Repeats which shards are moved and which processes are killed. */
const seed = Number(process.env['SAMPLE_SEED'] ?? Math.floor(Math.random() * 2 ** 32));
/** Between two lines where there is no terminal, in milliseconds. */
const LINE_INTERVAL = 2_000;
const INTERRUPTED = 130;

const screen = new Screen();
const ledger = new Ledger();
const startedAt = performance.now();
const seconds = (): number => Math.round((performance.now() - startedAt) / 1_000);
const say = (line: string): void => screen.say(line);

const interrupted = new AbortController();
// A second signal ends the driver at once; its services and servers then end by themselves.
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interrupted.abort(new Error(name)));

say(`SAMPLE_SEED=${seed}; a cluster of three masters and three replicas starts`);
const fleet = await Fleet.open({
  onEvent(_service, event) {
    // A service reports what it has typed.
    const report = event as unknown as Handling & { readonly event: string; readonly code: string };
    if (report.event === 'confirmed') ledger.confirm(report, report.shard);
    if (report.event === 'unconfirmed') ledger.fail(report.code, report.shard);
    if (report.event === 'handled') ledger.handle(report);
  },
  onText: (service, line) => say(`  ${service}: ${line}`),
});
const watch = new Watch(fleet, ledger);
watch.start();
screen.showStatus(() => shardTable(watch, ledger, seconds()));
const lines = setInterval(() => screen.isTerminal || say(statusLine(watch, ledger, seconds())), LINE_INTERVAL);
try {
  await new Scenario({ fleet, ledger, watch, random: new SeededRandom(seed), say, signal: interrupted.signal }).run();
  screen.hideStatus();
  const result = ledger.result();
  say(`\n${ledgerTable(result)}\n\n${seconds()} s`);
  if (result.lost.length > 0 || result.outOfOrder.length > 0) process.exitCode = 1;
} catch (error) {
  screen.hideStatus();
  if (!interrupted.signal.aborted) throw error;
  say('Interrupted; the cluster is closing');
  process.exitCode = INTERRUPTED;
} finally {
  clearInterval(lines);
  await watch.stop();
  await fleet.close();
}
