import { describe } from '@jest/globals';

import { CommandBench, useServers } from '../support/command-bench.js';
import { WAYS } from '../support/ways.js';
import { errorCases } from './cases/errors.js';
import { groupCases } from './cases/groups.js';
import { pendingCases } from './cases/pending.js';
import { readingCases } from './cases/reading.js';

const servers = useServers();

describe.each(WAYS)('the command layer over $name, reading:', (way) => {
  const bench = new CommandBench(way, servers);
  readingCases(bench);
  pendingCases(bench);
  groupCases(bench);
  errorCases(bench);
});
