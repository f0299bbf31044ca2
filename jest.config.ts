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
  // On two cores, beside the servers that the tests start. CI, which has nothing else to do, runs three at a time.
  maxWorkers: 2,
  testTimeout: 30_000,
  // For `npm run coverage`. Child processes are not counted. The provider `v8` would count the lines of types, which never run.
  coverageProvider: 'babel',
  collectCoverageFrom: ['lib/**/*.ts'],
  coverageReporters: ['text-summary', 'json-summary', 'lcov'],
  coverageThreshold: { global: { lines: 95 } },
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
    {
      ...withRedis,
      displayName: 'console',
      testMatch: ['<rootDir>/test/console/**/*.spec.ts'],
      // The console sees the library as its users do, here without a build of it.
      moduleNameMapper: { ...shared.moduleNameMapper, '^nestjs-redis-streams$': '<rootDir>/lib/index.ts' },
    },
    // On the site that `npm run docs` has built.
    { ...shared, displayName: 'docs', testMatch: ['<rootDir>/test/docs/**/*.spec.ts'] },
    { ...shared, displayName: 'release', testMatch: ['<rootDir>/test/release/**/*.spec.ts'] },
    { ...shared, displayName: 'types', testMatch: ['<rootDir>/test/types/**/*.spec.ts'] },
  ],
};

export default config;
