import type { JSX } from 'preact';

import type { MessageRow } from '../../src/api.js';
import { get, useLoaded } from '../data/client.js';
import { href, usePlace } from '../data/router.js';
import { formatDateTime } from '../data/time.js';
import { CopyButton } from '../ui/copy.js';
import { Facts, Heading } from '../ui/heading.js';
import { FailureBox } from '../ui/notices.js';
import { HeadersPanel, PayloadView } from '../ui/payload.js';
import { Age } from '../ui/time.js';

export function MessageDetail({ stream, id }: { stream: string; id: string }): JSX.Element {
  // Several shards may have an entry with the same id.
  const shard = usePlace().query.get('shard');
  const load = (signal: AbortSignal): Promise<MessageRow> => get('message', { stream, id, shard }, signal);
  const { data, failure, reload } = useLoaded(JSON.stringify([stream, id, shard]), 'message', load);
  return (
    <>
      <Heading
        title={id}
        crumbs={[
          { label: 'Streams', href: href('streams') },
          { label: stream, href: href('stream', { stream }) },
          { label: 'Messages', href: href('messages', { stream }) },
        ]}
        aside={<CopyButton text={id} of="the id" />}
      />
      {failure && <FailureBox failure={failure} retry={reload} />}
      {!failure && (
        <>
          <Facts
            isStill
            facts={[
              ['Sent', data && <Age at={data.at} />],
              ['Time', data && formatDateTime(data.at)],
              ['Key', data && (data.key ?? <span class="faint">none</span>)],
              ['Shard', data?.shard],
            ]}
          />
          {data ? (
            <div class="message">
              <PayloadView payload={data.payload} />
              <HeadersPanel headers={data.headers} />
            </div>
          ) : (
            <div class="panel loading tall" />
          )}
        </>
      )}
    </>
  );
}
