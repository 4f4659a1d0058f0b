// An OpenID provider on loopback for the wire tests: node-oidc-provider with the client credentials grant.
//
//   node server.mjs '{"port": 1234, "clients": {"dev": {"secret": "s", "vm_access": {"tenant_id": {}}}}}'
//
// An access token is a JWT, asked for with scope=metrics and resource=https://metrics.example/<ALG>, where <ALG>
// is RS256 or ES256. It carries the client's vm_access claim as given, object or string.
// POST /rotate replaces both signing keys: the JWKS lists the new ones only.
//
// A client with redirect_uris is for logins in a browser. The user "ann" has an account and is always at the keyboard:
// whoever is led to /auth comes back logged in, but after POST /deny, when she refuses. Her ID tokens carry the
// client's vm_access and live for its lifetime, in seconds. GET /seen lists the requests for tokens, and to end a session.

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
    clients: Object.entries(clients).map(([id, { secret, redirect_uris = [] }]) => ({
      client_id: id,
      client_secret: secret,
      grant_types: redirect_uris.length ? ['authorization_code', 'refresh_token'] : ['client_credentials'],
      redirect_uris,
      response_types: redirect_uris.length ? ['code'] : [],
      id_token_signed_response_alg: 'ES256',
    })),
    claims: { openid: ['sub', 'vm_access'] },
    conformIdTokenClaims: false,
    findAccount: (ctx, id) => ({
      accountId: id,
      claims: () => ({ sub: id, vm_access: clients[ctx.oidc.client.clientId].vm_access }),
    }),
    interactions: { url: (ctx, interaction) => `/at-the-keyboard/${interaction.uid}` },
    issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
    rotateRefreshToken: true,
    ttl: { IdToken: (ctx, token, client) => clients[client.clientId].lifetime ?? 600 },
    cookies: { keys: [randomUUID()] },
    jwks: { keys: Object.keys(signedBy).map(signingKey) },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      revocation: { enabled: true },
      rpInitiatedLogout: { enabled: true },
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
  });
}

let provider = handler();
let denies = false;
const seen = [];

// What the pages of a real provider do once the user has typed a password and agreed.
async function interact(request, response) {
  if (denies) {
    await provider.interactionFinished(request, response, { error: 'access_denied' });
    return;
  }
  const { params, grantId } = await provider.interactionDetails(request, response);
  const grant = grantId ? await provider.Grant.find(grantId) : undefined;
  const agreed = grant ?? new provider.Grant({ accountId: 'ann', clientId: params.client_id });
  agreed.addOIDCScope(params.scope);
  const consent = { grantId: await agreed.save() };
  await provider.interactionFinished(request, response, { login: { accountId: 'ann' }, consent });
}

createServer((request, response) => {
  const path = request.url.split('?')[0];
  if (request.method === 'POST' && path === '/rotate') {
    provider = handler();
    response.writeHead(204).end();
  } else if (request.method === 'POST' && path === '/deny') {
    denies = true;
    response.writeHead(204).end();
  } else if (path === '/seen') {
    response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(seen));
  } else if (path.startsWith('/at-the-keyboard/')) {
    interact(request, response).catch((error) => response.writeHead(500).end(String(error)));
  } else {
    if (path.startsWith('/token') || path.startsWith('/session/end')) {
      seen.push(`${request.method} ${request.url}`);
    }
    provider.callback()(request, response);
  }
}).listen(port, '127.0.0.1', () => console.log(`ready: ${issuer}`));

process.on('SIGTERM', () => process.exit(0));
