import type { JSX } from 'preact';
import { useEffect } from 'preact/hooks';

import { get, session } from '../data/client.js';
import type { Session } from '../../src/api.js';
import { connection } from '../data/live.js';
import { usePlace } from '../data/router.js';
import type { Place } from '../data/router.js';
import { DeadLetterDetail } from '../pages/dead-letter.js';
import { GroupPage } from '../pages/group.js';
import { HealthPage } from '../pages/health.js';
import { MessageDetail } from '../pages/message.js';
import { StreamPage } from '../pages/stream.js';
import { StreamsPage } from '../pages/streams.js';
import { Heading } from '../ui/heading.js';
import { AllStreamsLink, Empty, Notice, tell } from '../ui/notices.js';
import { PageBoundary } from './page-boundary.js';
import { TopBar } from './top-bar.js';

/** Again with the feed, when the application did not answer at first. */
function loadSession(): () => void {
  const load = (): void => {
    if (session.value) return;
    get<Session>('session').then(
      (answer) => session.set(answer),
      (error: unknown) => tell((error as Error).message, true),
    );
  };
  load();
  return connection.subscribe(() => {
    if (connection.value === 'live') load();
  });
}

export function App(): JSX.Element {
  const place = usePlace();
  useEffect(loadSession, []);
  return (
    <>
      <a class="skip" href="#content">
        Skip to the content
      </a>
      <TopBar />
      <main id="content" class="column" tabIndex={-1}>
        <PageBoundary place={place}>
          <Page place={place} />
        </PageBoundary>
      </main>
      <Notice />
    </>
  );
}

/** Keyed by what it shows, so that nothing of another stream or group stays. */
function Page({ place: { page, query } }: { place: Place }): JSX.Element {
  const stream = query.get('stream') ?? '';
  const [group, id] = [query.get('group') ?? '', query.get('id') ?? ''];
  if (page === 'streams') return <StreamsPage />;
  if (page === 'health') return <HealthPage />;
  if (page === 'unknown' || stream === '') return <NoPage />;
  const key = JSON.stringify([page, stream, group, id]);
  if (page === 'group') return group ? <GroupPage key={key} stream={stream} group={group} /> : <NoPage />;
  if (page === 'message') return id ? <MessageDetail key={key} stream={stream} id={id} /> : <NoPage />;
  if (page === 'dead-letter') return id ? <DeadLetterDetail key={key} stream={stream} id={id} /> : <NoPage />;
  return <StreamPage key={stream} stream={stream} tab={page} />;
}

function NoPage(): JSX.Element {
  return (
    <>
      <Heading title="Not found" />
      <Empty title="There is no such page">
        <p>The address may be incomplete.</p>
        <p>
          <AllStreamsLink />
        </p>
      </Empty>
    </>
  );
}
