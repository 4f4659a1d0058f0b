// An OpenID provider on loopback for the wire tests: node-oidc-provider with the client credentials grant.
//
//   node server.mjs '{"port": 1234, "clients": {"dev": {"secret": "s", "vm_access": {"tenant_id": {}}}}}'
//
// An access token is a JWT, asked for with scope=metrics and resource=https://metrics.example/<ALG>, where <ALG>
// is RS256 or ES256. It carries the client's vm_access claim as given, object or string.
// POST /rotate replaces both signing keys: the JWKS lists the new ones only.

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const { port, clients } = JSON.parse(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const signedBy = { RS256: ['rsa', { modulusLength: 2048 }], ES256: ['ec', { namedCurve: 'P-256' }] };

function signingKey(alg) {
  const { privateKey } = generateKeyPairSync(...signedBy[alg]);
  return { ...privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: `${alg}-${randomUUID()}` };
}

function handler() {
  return new Provider(issuer, {
    clients: Object.entries(clients).map(([id, { secret }]) => ({
      client_id: id,
      client_secret: secret,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    })),
    jwks: { keys: Object.keys(signedBy).map(signingKey) },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (ctx, resource) => ({
          scope: 'metrics',
          audience: resource,
          accessTokenFormat: 'jwt',
          accessTokenTTL: 600,
          jwt: { sign: { alg: new URL(resource).pathname.slice(1) } },
        }),
      },
    },
    extraTokenClaims: (ctx, token) => ({ vm_access: clients[token.clientId].vm_access }),
  }).callback();
}

let provider = handler();

createServer((request, response) => {
  if (request.method === 'POST' && request.url === '/rotate') {
    provider = handler();
    response.writeHead(204).end();
    return;
  }
  provider(request, response);
}).listen(port, '127.0.0.1', () => console.log(`ready: ${issuer}`));

process.on('SIGTERM', () => process.exit(0));
