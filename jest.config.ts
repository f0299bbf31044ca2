/** @jest-config-loader esbuild-register */
import type { Config } from 'jest';

const shared = {
  testEnvironment: 'node',
  extensionsToTreatAsEsm: ['.ts'],
  moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' },
  modulePathIgnorePatterns: ['<rootDir>/dist', '<rootDir>/packages/[^/]+/dist', '<rootDir>/.run'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      {
        jsc: {
          target: 'es2022',
          parser: { syntax: 'typescript', decorators: true },
          transform: { legacyDecorator: true, decoratorMetadata: true },
          keepClassNames: true,
        },
        module: { type: 'es6' },
      },
    ],
  },
};

const withRedis = {
  ...shared,
  globalSetup: '<rootDir>/test/support/global-setup.ts',
  globalTeardown: '<rootDir>/test/support/global-teardown.ts',
};

const config: Config = {
  // Two cores must be enough: the tests talk to real servers, so more workers only add noise.
  maxWorkers: 2,
  testTimeout: 30_000,
  projects: [
    { ...shared, displayName: 'unit', testMatch: ['<rootDir>/test/unit/**/*.spec.ts'] },
    { ...withRedis, displayName: 'integration', testMatch: ['<rootDir>/test/integration/**/*.spec.ts'] },
    {
      ...shared,
      displayName: 'integrity',
      testMatch: ['<rootDir>/test/integrity/**/*.spec.ts'],
      // Its cluster is the same in both topologies, so it runs in one of them.
      testPathIgnorePatterns: process.env['REDIS_TOPOLOGY'] === 'cluster' ? [] : ['test/integrity/cluster-chaos'],
      globalSetup: '<rootDir>/test/support/integrity-setup.ts',
      globalTeardown: '<rootDir>/test/support/integrity-teardown.ts',
    },
    { ...shared, displayName: 'conformance', testMatch: ['<rootDir>/test/conformance/**/*.spec.ts'] },
    { ...withRedis, displayName: 'interop', testMatch: ['<rootDir>/test/interop/**/*.spec.ts'] },
    { ...withRedis, displayName: 'e2e', testMatch: ['<rootDir>/test/e2e/**/*.spec.ts'] },
    { ...withRedis, displayName: 'cli', testMatch: ['<rootDir>/test/cli/**/*.spec.ts'] },
    { ...shared, displayName: 'types', testMatch: ['<rootDir>/test/types/**/*.spec.ts'] },
  ],
};

export default config;
