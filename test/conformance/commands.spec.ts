import { describe } from '@jest/globals';

import { CommandBench, useServers } from '../support/command-bench.js';
import { WAYS } from '../support/ways.js';
import { appendingCases } from './cases/appending.js';
import { connectingCases } from './cases/connecting.js';
import { errorCases } from './cases/errors.js';
import { exactlyOnceCases } from './cases/exactly-once.js';
import { groupCases } from './cases/groups.js';
import { keyCases } from './cases/keys.js';
import { pendingCases } from './cases/pending.js';
import { readingCases } from './cases/reading.js';

const servers = useServers();

describe.each(WAYS)('the command layer over $name:', (way) => {
  const bench = new CommandBench(way, servers);
  connectingCases(bench);
  appendingCases(bench);
  exactlyOnceCases(bench);
  readingCases(bench);
  pendingCases(bench);
  groupCases(bench);
  keyCases(bench);
  errorCases(bench);
});
