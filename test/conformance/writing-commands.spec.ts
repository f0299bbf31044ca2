import { describe } from '@jest/globals';

import { CommandBench, useServers } from '../support/command-bench.js';
import { WAYS } from '../support/ways.js';
import { appendingCases } from './cases/appending.js';
import { connectingCases } from './cases/connecting.js';
import { exactlyOnceCases } from './cases/exactly-once.js';
import { keyCases } from './cases/keys.js';

const servers = useServers();

describe.each(WAYS)('the command layer over $name, connecting and writing:', (way) => {
  const bench = new CommandBench(way, servers);
  connectingCases(bench);
  appendingCases(bench);
  exactlyOnceCases(bench);
  keyCases(bench);
});
