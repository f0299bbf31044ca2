import { expect, it } from '@jest/globals';

import { GuardedTelemetry } from '../../lib/engine/telemetry/guarded-telemetry.js';
import type { Telemetry, TelemetrySource } from '../../lib/engine/telemetry/telemetry.js';
import { consoleLogger } from '../../lib/shared/logger.js';
import { until } from '../support/until.js';

const source: TelemetrySource = {
  status: 'connected',
  server: undefined,
  stats: () => ({ status: 'connected', isClosed: false, reconnects: 0, queued: 0, loops: [] }),
  health: () => Promise.reject(new Error('not asked')),
};

it('every telemetry is given one duration of an operation, in milliseconds', async () => {
  const durations: number[] = [];
  const timing: Telemetry = { startRequest: () => ({ end: (_, duration) => void durations.push(duration) }) };
  const telemetry = new GuardedTelemetry([timing, timing, timing], source, consoleLogger);
  const operation = telemetry.startRequest({ pattern: 'sum', streamKey: 'sum', source });
  const startedAt = performance.now();
  await until('50 ms have passed', () => performance.now() - startedAt >= 50);
  operation?.end({});
  operation?.end({});
  expect(durations).toHaveLength(3);
  expect(new Set(durations).size).toBe(1);
  expect(durations[0]).toBeGreaterThanOrEqual(50);
  expect(durations[0]).toBeLessThanOrEqual(performance.now() - startedAt + 5);
});
