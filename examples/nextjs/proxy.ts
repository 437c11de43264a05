import { clerkMiddleware } from '@clerk/nextjs/server'

// Keeps the session fresh for the server. Each page that needs a user says so itself: `ownRow()` calls `auth.protect()`.
export default clerkMiddleware()

export const config = {
  matcher: ['/((?!_next|.*\\.(?:css|js|png|svg|ico|webp)$).*)', '/(api|trpc)(.*)'],
}
