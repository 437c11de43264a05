'use client'

import { OrganizationSwitcher, Show, UserButton } from '@clerk/nextjs'
import Link from 'next/link'
import { usePathname } from 'next/navigation'

const PAGES = [
  ['/todos', 'To-dos'],
  ['/profiles', 'People'],
  ['/organization', 'Organization'],
  ['/reports', 'Reports'],
] as const

export function Header() {
  const path = usePathname()
  return (
    <header className="top">
      <Link className="brand" href="/">
        Clerk + Supabase
      </Link>
      <Show when="signed-in">
        <nav aria-label="Pages">
          {PAGES.map(([href, label]) => (
            <Link key={href} href={href} aria-current={path.startsWith(href) ? 'page' : undefined}>
              {label}
            </Link>
          ))}
        </nav>
        <OrganizationSwitcher afterSelectOrganizationUrl="/organization" afterCreateOrganizationUrl="/organization" />
        <UserButton />
      </Show>
      <Show when="signed-out">
        <nav aria-label="Account">
          <Link href="/sign-in">Sign in</Link>
          <Link className="button" href="/sign-up">
            Sign up
          </Link>
        </nav>
      </Show>
    </header>
  )
}
