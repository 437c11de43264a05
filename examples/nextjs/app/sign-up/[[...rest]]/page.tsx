import { SignUpForm } from '../../account-forms'

export const metadata = { title: 'Sign up' }

export default function SignUpPage() {
  return (
    <div className="middle">
      <SignUpForm fallbackRedirectUrl="/todos" />
    </div>
  )
}
