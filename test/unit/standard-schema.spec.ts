import { describe, expect, it } from '@jest/globals';

import { validate } from '../../lib/nest/standard-schema.js';
import type { StandardSchemaV1 } from '../../lib/nest/standard-schema.js';

const check = async (returned: unknown): Promise<unknown> => {
  const schema = { '~standard': { version: 1, vendor: 'own', validate: () => returned } };
  return validate(schema as StandardSchemaV1, 'orders', { id: 1 });
};

describe.each([
  ['synchronous', (result: unknown): unknown => result],
  ['asynchronous', (result: unknown): unknown => Promise.resolve(result)],
])('what a %s schema returns', (_, returned) => {
  it.each([undefined, null, true, 'text', {}, { issues: undefined }, { id: 1 }])(
    'is a failure of the schema when it is %p, and no payload',
    async (result) => {
      await expect(check(returned(result))).rejects.toMatchObject({
        code: 'ERR_CALLBACK',
        message: "schemas['orders'] failed: it must return { value } or { issues }",
      });
    },
  );

  it('is a failure of the schema when its issues are no list', async () => {
    await expect(check(returned({ issues: 'many' }))).rejects.toMatchObject({ code: 'ERR_CALLBACK' });
  });

  it.each([{ value: undefined }, { value: 0, issues: undefined }])('is the value of %p', async (result) => {
    await expect(check(returned(result))).resolves.toBe(result.value);
  });

  it('is an invalid payload when it has issues', async () => {
    const result = { issues: [{ message: 'no id' }] };
    await expect(check(returned(result))).rejects.toMatchObject({ code: 'ERR_PAYLOAD_INVALID' });
  });
});
