import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

import { Screen } from '../../driver/screen.js';
import { ShopEnvironment } from './environment.js';
import { ShopScenario } from './scenario.js';
import { Tallies } from './tally.js';
import { Timeline } from './timeline.js';

const INTERRUPTED = 130;

/**
 * Runs the shop. Resolves with the exit code: 0 when every order was handled and none is pending. With `--picture` it also draws the run.
 */
export async function runShop(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: { serve: { type: 'boolean', default: false }, picture: { type: 'string' } },
  });
  const screen = new Screen();
  const tallies = new Tallies();
  const timeline = new Timeline();
  const environment = await ShopEnvironment.open(screen, (service, event) => {
    tallies.add(service, event);
    if (event.event === 'handled') timeline.add(service);
    if (values.serve) screen.say(`${service}: ${JSON.stringify(event)}`);
  });
  const interrupted = new AbortController();
  // A second signal ends the driver at once; its services and its Redis server then end by themselves.
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interrupted.abort(new Error(name)));
  try {
    screen.say(`Redis: ${environment.redis.origin}`);
    const scenario = new ShopScenario(environment, screen, tallies, interrupted.signal);
    if (values.serve) return await scenario.serve();
    const code = await scenario.run(timeline);
    if (values.picture !== undefined) {
      const { drawRun } = await import('./picture.js');
      writeFileSync(values.picture, drawRun(timeline));
    }
    return code;
  } catch (error) {
    if (!interrupted.signal.aborted) throw error;
    screen.say('Interrupted; the shop is closing');
    return INTERRUPTED;
  } finally {
    screen.hideStatus();
    await environment.close();
  }
}
