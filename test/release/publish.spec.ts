import { expect, it, jest } from '@jest/globals';
import { Registry } from './registry.js';
import { ReleasedPackages } from './released-packages.js';

// npm starts up to ten times in a test.
jest.setTimeout(120_000);

async function packed(registry: Registry, version: string): Promise<ReleasedPackages> {
  const packages = new ReleasedPackages(version, registry.environment());
  await packages.pack();
  return packages;
}

const publish = (packages: ReleasedPackages): Promise<string> => packages.run('.ci/publish', '.');

it('a publication that broke off: it is completed by a second one, each package after those that it needs', async () => {
  await using registry = await Registry.start();
  using packages = await packed(registry, '0.2.0');
  registry.isBroken = (method, name) => method === 'PUT' && name === 'console';
  await expect(publish(packages)).rejects.toThrow('500 Internal Server Error');
  expect([...registry.packages.keys()]).toEqual(['library']);

  registry.isBroken = () => false;
  expect(await publish(packages)).toContain('library@0.2.0 is in the registry');
  expect([...registry.packages.keys()]).toEqual(['library', 'console', 'cli']);
  expect(registry.packages.get('cli')?.['dist-tags']).toEqual({ latest: '0.2.0' });
});

it('a publication: it is refused when the registry has the version with other contents', async () => {
  await using registry = await Registry.start();
  using packages = await packed(registry, '0.2.0');
  const dist = { integrity: 'sha512-AAAA' };
  registry.packages.set('library', { 'dist-tags': { latest: '0.2.0' }, versions: { '0.2.0': { dist } } });
  await expect(publish(packages)).rejects.toThrow('library@0.2.0 is in the registry with other contents');
  expect([...registry.packages.keys()]).toEqual(['library']);
});

it('a publication: it is broken off when the registry cannot be asked', async () => {
  await using registry = await Registry.start();
  using packages = await packed(registry, '0.2.0');
  registry.isBroken = (method) => method === 'GET';
  await expect(publish(packages)).rejects.toThrow('500 Internal Server Error');
  expect(registry.packages.size).toBe(0);
});

it('a publication: it leaves the tag latest alone when the version is a pre-release', async () => {
  await using registry = await Registry.start();
  using packages = await packed(registry, '1.0.0-rc.1');
  await publish(packages);
  expect(registry.packages.get('library')?.['dist-tags']).toEqual({ next: '1.0.0-rc.1' });
});
