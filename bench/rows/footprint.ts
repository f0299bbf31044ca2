import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { keyOf } from '../contenders/setting.js';
import type { Footprint, Row, Setting } from '../row.js';

const ENGINE = 'an idle consumer of /engine';

const program = fileURLToPath(new URL('../contenders/idle-process.js', import.meta.url));
const run = promisify(execFile);

/** Starts an idle process, which prints what it took. */
async function footprintOf(what: 'ioredis' | 'engine', setting: Setting): Promise<Footprint> {
  const { stdout } = await run(process.execPath, [program, what, setting.url, keyOf(setting, 'idle')]);
  return JSON.parse(stdout) as Footprint;
}

export const row: Row = {
  title: 'An idle process',
  note: `How long the import of the engine takes in a new process, ioredis included, and how much more resident memory that process
has with an idle load-balanced consumer than one with an idle client of ioredis, two seconds after it has connected.`,
  metrics: ['importTime', 'memory'],
  entrants: [
    {
      name: ENGINE,
      open: async (setting) => ({
        async work() {
          const bare = await footprintOf('ioredis', setting);
          const engine = await footprintOf('engine', setting);
          return { footprint: { ...engine, memory: engine.memory - bare.memory } };
        },
        close: async () => undefined,
      }),
    },
  ],
  targets: [
    { entrant: ENGINE, metric: 'importTime', atMost: 300 },
    { entrant: ENGINE, metric: 'memory', atMost: 15 * 2 ** 20 },
  ],
};
