import { it } from '@jest/globals';
import { useTally } from '../support/tally.js';
const tally = useTally();
it('x', () => tally({ faults: 0, sends: 0, handled: 0, duplicates: 0, lost: 0 }));
